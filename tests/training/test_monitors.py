import numpy as np
import pytest
import torch
from _oracles import loop_squared_distances, random_clusters, to_numpy

from sklearn_ckm._training._batches import Batch
from sklearn_ckm._training._monitors import MONITORS, ClusteringMonitors, direct_center_gradient
from sklearn_ckm.losses import concrete_kmeans_loss, squared_distances, straight_through_assignment
from sklearn_ckm.modules import Centers
from sklearn_ckm.objectives import ConcreteKMeansObjective, DCNObjective
from sklearn_ckm.utils._random import make_generator

N_ROWS, K, TEMPERATURE, WEIGHT = 12, 4, 2.5, 0.3


def run_epoch(device, start_labels, objective=None):
    """One epoch of three batches; the monitors' answer, and all that it was made of."""
    objective = objective or ConcreteKMeansObjective()
    z, positions = random_clusters(N_ROWS, K)
    z = torch.tensor(z, dtype=torch.float32, device=device)
    centers = Centers(torch.tensor(positions, dtype=torch.float32), TEMPERATURE).to(device)
    order = torch.randperm(N_ROWS, generator=torch.Generator().manual_seed(0)).to(device)
    monitors = ClusteringMonitors(N_ROWS, K, torch.tensor(start_labels, device=device))
    monitors.start_epoch()
    generator, batches = make_generator(1, device), []
    for index in order.split(4):
        step = objective.step(
            z[index], centers.positions, centers.follow, progress=0.0, generator=generator
        )
        monitors.update(Batch(None, 0, None, index), z[index], step)
        batches.append((z[index], step))
    (WEIGHT * step.loss).backward()
    monitors.measure_gradient(z[index], step, centers.positions, WEIGHT)
    return monitors.finish_epoch(3, centers), batches, centers, to_numpy(z).astype(np.float64)


def naive_monitors(batches, centers, z, start_labels):
    positions = to_numpy(centers.positions).astype(np.float64)
    distances = loop_squared_distances(z, positions)
    labels = distances.argmin(1)
    withins, confidences, flips = [], [], []
    for rows, step in batches:
        rows = to_numpy(rows).astype(np.float64)
        d = loop_squared_distances(rows, positions)
        p = np.exp(-d / TEMPERATURE)
        withins.append(d.min(1).mean())
        confidences.append((p / p.sum(1, keepdims=True)).max(1).mean())
        flips.append(np.mean(to_numpy(step.choice) != d.argmin(1)))
    # the mean over batches of the first two moments, so that batches of one row have a variance
    moments = [(to_numpy(rows).mean(0), np.square(to_numpy(rows)).mean(0)) for rows, _ in batches]
    first, second = np.mean(moments, axis=0)
    variance = (second - np.square(first)).sum()
    spread = np.square(positions - positions.mean(0)).sum(1).mean()
    fractions = np.bincount(labels, minlength=len(positions)) / len(z)
    rows, step = batches[-1]
    rows, choice = to_numpy(rows), to_numpy(step.choice)
    direct = np.zeros_like(positions)
    for row, j in zip(rows, choice, strict=True):
        direct[j] -= 2 * (row - positions[j]) / len(rows)
    indirect = to_numpy(centers.positions.grad) / WEIGHT - direct
    return {
        "mean_max_probability": np.mean(confidences),
        "sampled_not_nearest": np.mean(flips),
        "embedding_variance": variance,
        "within_over_variance": np.mean(withins) / variance,
        "center_spread_over_variance": spread / variance,
        "min_cluster_fraction": fractions.min(),
        "max_cluster_fraction": fractions.max(),
        "label_change": np.mean(labels != start_labels),
        "center_gradient_direct": np.linalg.norm(direct),
        "center_gradient_indirect": np.linalg.norm(indirect),
        "temperature": TEMPERATURE,
    }


@pytest.mark.parametrize(
    "settings", [{}, {"form": "A", "estimator": "gumbel", "relaxation": 0.5}, {"estimator": "soft"}]
)
def test_equal_the_naive_numbers(device, settings):
    start_labels = [0, 1, 2, 3] * 3
    monitors, *made_of = run_epoch(device, start_labels, ConcreteKMeansObjective(**settings))
    expected = naive_monitors(*made_of, start_labels)
    assert tuple(monitors) == tuple(expected) == MONITORS
    assert monitors == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert monitors["center_gradient_indirect"] > 0.01


def test_detached_gradient_has_no_indirect_part(device):
    monitors, *_ = run_epoch(device, [0] * 12, ConcreteKMeansObjective(estimator="detached"))
    assert monitors["center_gradient_direct"] > 0.1
    assert monitors["center_gradient_indirect"] == pytest.approx(0, abs=1e-6)


def test_label_change_counts_from_epoch_to_epoch():
    distances = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    centers = Centers(torch.tensor([[0.0], [1.0]]), 1.0)
    monitors = ClusteringMonitors(4, 2, torch.tensor([0, 1, 0, 1]))
    index = torch.arange(4)
    changes = []
    for d in (distances, distances, 1 - distances):
        monitors.start_epoch()
        step = ConcreteKMeansObjective(noise=0.0).step(
            torch.rand(4, 1), centers.positions, 1.0, progress=0.0, generator=None
        )
        step = step._replace(distances=d)
        monitors.update(Batch(None, 0, None, index), torch.rand(4, 1), step)
        monitors.measure_gradient(torch.rand(4, 1), step, centers.positions, 1.0)
        changes.append(monitors.finish_epoch(1, centers)["label_change"])
    assert changes == [0.5, 0.0, 1.0]


def test_start_labels_are_a_copy():
    start = torch.tensor([0, 1])
    monitors = ClusteringMonitors(2, 2, start)
    monitors.labels[0] = 1
    assert start.tolist() == [0, 1]


@pytest.mark.parametrize("form", ["A", "B"])
def test_direct_gradient_equals_autograd(device, form):
    z, positions = (torch.tensor(a, device=device) for a in random_clusters())
    positions.requires_grad_()
    assignment, choice = straight_through_assignment(
        -squared_distances(z, positions),
        estimator="detached",
        generator=make_generator(0, device),
    )
    loss = concrete_kmeans_loss(z, positions, assignment, form=form)
    (expected,) = torch.autograd.grad(loss, positions)
    direct = direct_center_gradient(z, positions.detach(), choice)
    torch.testing.assert_close(direct, expected, rtol=1e-12, atol=1e-13)


def test_without_a_clustering_weight_there_is_no_indirect_gradient():
    z, positions = (torch.tensor(a, dtype=torch.float32) for a in random_clusters())
    centers = Centers(positions, 1.0)
    step = ConcreteKMeansObjective().step(
        z, centers.positions, 1.0, progress=0.0, generator=make_generator(0, "cpu")
    )
    (0.0 * step.loss).backward()
    monitors = ClusteringMonitors(12, 4, torch.zeros(12, dtype=torch.long))
    monitors.start_epoch()
    monitors.update(Batch(None, 0, None, torch.arange(12)), z, step)
    monitors.measure_gradient(z, step, centers.positions, 0.0)
    numbers = monitors.finish_epoch(1, centers)
    assert numbers["center_gradient_indirect"] == 0
    assert numbers["center_gradient_direct"] > 0


def test_centres_that_a_rule_moves_have_no_direct_gradient():
    z, positions = (torch.tensor(a, dtype=torch.float32) for a in random_clusters())
    centers = Centers(positions, 1.0)
    step = DCNObjective().step(z, centers.positions, 1.0)
    (step.loss + step.distances.mean()).backward()
    monitors = ClusteringMonitors(12, 4, torch.zeros(12, dtype=torch.long))
    monitors.start_epoch()
    monitors.update(Batch(None, 0, None, torch.arange(12)), z, step)
    monitors.measure_gradient(z, step, centers.positions, 0.5, has_direct=False)
    numbers = monitors.finish_epoch(1, centers)
    assert numbers["center_gradient_direct"] == 0
    expected = centers.positions.grad.norm().item() / 0.5
    assert numbers["center_gradient_indirect"] == pytest.approx(expected)
