import copy

import numpy as np
import pytest
import torch
from _oracles import (
    leaves,
    loop_kmeans_gradients,
    loop_kmeans_loss,
    loop_softmax,
    loop_squared_distances,
    random_clusters,
    to_numpy,
)
from numpy.testing import assert_allclose
from torch import nn

from sklearn_ckm._training._batches import Batch, DomainBatches
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import DCNObjective
from sklearn_ckm.utils._random import make_generator


def loop_running_means(z, centers, counts):
    """The rule of the paper, row by row, with the assignments of before the batch."""
    centers, counts = centers.copy(), counts.copy()
    for row, j in zip(z, loop_squared_distances(z, centers).argmin(1), strict=True):
        counts[j] += 1
        centers[j] -= (centers[j] - row) / counts[j]
    return centers, counts


def moved(objective, z, centers, device="cpu"):
    """Centres and counts after one batch."""
    z, centers = (torch.tensor(a, device=device) for a in (z, centers))
    state = objective.start(centers)
    objective.move_centers(state, z, centers)
    return to_numpy(centers), to_numpy(state["counts"])


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial_count", [-1, -0.5, float("nan"), float("inf"), None, "100"])
def test_settings_that_make_no_sense_raise(initial_count):
    message = f"Expected 'initial_count' .*at least 0, got {initial_count!r}"
    with pytest.raises(ValueError, match=message):
        DCNObjective(initial_count=initial_count).check_settings()


@pytest.mark.parametrize("initial_count", [0, 1, 0.5, 1e6, np.float32(3)])
def test_settings_that_make_sense_pass(initial_count):
    DCNObjective(initial_count=initial_count).check_settings()


# the step -----------------------------------------------------------------------------------------


def test_step_is_half_the_kmeans_loss(device):
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    result = DCNObjective().step(*leaves(device, z, centers), torch.tensor(2.5, device=device))
    assert result.loss.item() == pytest.approx(loop_kmeans_loss(z, centers) / 2, rel=1e-12)
    assert_allclose(to_numpy(result.distances), distances, rtol=1e-12)
    assert_allclose(np.exp(to_numpy(result.logits)), loop_softmax(-distances / 2.5), rtol=1e-12)
    assert result.choice.tolist() == distances.argmin(1).tolist()


def test_gradient_reaches_the_embeddings_and_not_the_centres(device):
    z, centers = random_clusters()
    inputs = leaves(device, z, centers)
    result = DCNObjective().step(*inputs, torch.tensor(1.0, device=device))
    got = torch.autograd.grad(result.loss, inputs, allow_unused=True)
    expected, _ = loop_kmeans_gradients(z, centers, result.choice.tolist())
    assert_allclose(to_numpy(got[0]), expected / 2, rtol=1e-12, atol=1e-15)
    assert got[1] is None


def test_distances_have_a_gradient_for_the_centres_that_views_use(device):
    z, centers = random_clusters()
    inputs = leaves(device, z, centers)
    result = DCNObjective().step(*inputs, torch.tensor(1.0, device=device))
    _, got = torch.autograd.grad(result.distances.sum(), inputs)
    assert_allclose(to_numpy(got), 2 * (len(z) * centers - z.sum(0)), rtol=1e-12)


def test_gradcheck_of_the_embeddings():
    z, centers = random_clusters(5, 3, 2)
    (inputs,) = leaves("cpu", z)
    assert torch.autograd.gradcheck(
        lambda z: DCNObjective().step(z, torch.tensor(centers), 1.0).loss, (inputs,)
    )


# the rule of the centres --------------------------------------------------------------------------


@pytest.mark.parametrize("initial_count", [0.0, 1.0, 100.0])
def test_single_centre_is_the_mean_with_its_start_counted_so_often(device, initial_count):
    z, centers = random_clusters(30, 1)
    objective = DCNObjective(initial_count=initial_count)
    got, counts = moved(objective, z, centers, device)
    expected = (initial_count * centers + z.sum(0)) / (initial_count + 30)
    assert_allclose(got, expected, rtol=1e-12)
    assert counts.tolist() == [initial_count + 30]


def test_first_row_of_a_centre_without_a_count_is_where_it_goes(device):
    centers = np.array([[0.0, 0.0], [10.0, 0.0]])
    got, counts = moved(DCNObjective(initial_count=0), np.array([[1.0, 2.0]]), centers, device)
    assert got.tolist() == [[1.0, 2.0], [10.0, 0.0]]
    assert counts.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("initial_count", [0.0, 3.0, 100.0])
def test_equals_the_rule_row_by_row(device, seed, initial_count):
    z, centers = random_clusters(40, seed=seed)
    objective = DCNObjective(initial_count=initial_count)
    got, counts = moved(objective, z, centers, device)
    expected, expected_counts = loop_running_means(z, centers, np.full(4, initial_count))
    assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    assert counts.tolist() == expected_counts.tolist()
    assert np.abs(got - centers).max() > 0.01


def test_order_of_the_rows_does_not_matter():
    z, centers = random_clusters(40)
    order = np.random.default_rng(1).permutation(40)
    got, counts = moved(DCNObjective(), z, centers)
    shuffled, shuffled_counts = moved(DCNObjective(), z[order], centers)
    assert_allclose(shuffled, got, rtol=1e-12)
    assert shuffled_counts.tolist() == counts.tolist()


def test_counts_persist_over_batches():
    z, _ = random_clusters(30)
    centers = np.array([[0.0, 0.0, 0.0], [500.0, 0.0, 0.0]])  # the first takes every row
    tensor = torch.tensor(centers)
    objective = DCNObjective(initial_count=10.0)
    state = objective.start(tensor)
    for batch in np.split(z, 3):
        objective.move_centers(state, torch.tensor(batch), tensor)
    assert_allclose(tensor[0], z.sum(0) / 40, rtol=1e-12)
    assert state["counts"].tolist() == [40, 10]

    forgetful = torch.tensor(centers)  # the broken variant: counts start anew with each batch
    for batch in np.split(z, 3):
        objective.move_centers(objective.start(forgetful), torch.tensor(batch), forgetful)
    assert (forgetful[0] - tensor[0]).abs().max() > 0.01


def test_centre_without_rows_stays_where_it_is(device):
    z, centers = random_clusters(30)
    centers = np.vstack([centers, [[1e3, 1e3, 1e3]]])
    for initial_count in (0.0, 100.0):
        objective = DCNObjective(initial_count=initial_count)
        got, counts = moved(objective, z, centers, device)
        assert got[-1].tolist() == centers[-1].tolist()
        assert counts[-1] == initial_count
        assert np.isfinite(got).all()


def test_larger_initial_counts_make_slower_centres():
    z, centers = random_clusters(40)
    shifts = [
        np.linalg.norm(moved(DCNObjective(initial_count=count), z, centers)[0] - centers)
        for count in (1.0, 10.0, 100.0, 1e9)
    ]
    assert shifts == sorted(shifts, reverse=True)
    assert shifts[0] > 5 * shifts[2] > 0
    assert shifts[3] < 1e-6


def test_rule_leaves_the_embeddings_and_the_graph_alone():
    z, centers = map(torch.tensor, random_clusters())
    before = z.clone()
    parameter = nn.Parameter(centers)
    objective = DCNObjective()
    objective.move_centers(objective.start(parameter), z.requires_grad_(), parameter.detach())
    assert torch.equal(z, before)
    assert parameter.grad_fn is None
    assert z.grad is None


# the sum with the reconstruction ------------------------------------------------------------------


def identity_terms(x, centers, weight=0.6, *, shift=0.5):
    """Loss terms where the code is the input and the reconstruction lies `shift` off."""
    decoder = nn.Linear(x.shape[1], x.shape[1])
    with torch.no_grad():
        decoder.weight.copy_(torch.eye(x.shape[1]))
        decoder.bias.fill_(shift)
    x, centers = (torch.tensor(a, dtype=torch.float32) for a in (x, centers))
    model = ClusteringModel(nn.Identity(), decoder, None, Centers(centers, 1.0))
    batch = Batch(x, 0, None, torch.arange(len(x)))
    terms, _ = JointCriterion(DCNObjective(), weight)(model, batch, progress=0.0, generator=None)
    return {name: term.item() for name, term in terms.items()}


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_total_is_the_reconstruction_and_half_the_weighted_distances(weight):
    z, centers = random_clusters()
    terms = identity_terms(z, centers, weight)
    reconstruction = 3 * 0.5**2  # a sum over features
    assert terms["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    expected = reconstruction + weight / 2 * loop_kmeans_loss(z, centers)
    assert terms["loss"] == pytest.approx(expected, rel=1e-5)


def test_number_of_rows_does_not_change_the_terms():
    z, centers = random_clusters()
    once, twice = identity_terms(z, centers), identity_terms(np.tile(z, (2, 1)), centers)
    assert twice == pytest.approx(once, rel=1e-5)


def test_number_of_pixels_does_not_change_the_ratio_of_the_terms():
    z, centers = random_clusters()
    once = identity_terms(z, centers)
    twice = identity_terms(np.tile(z, (1, 2)), np.tile(centers, (1, 2)))
    assert twice == pytest.approx({name: 2 * term for name, term in once.items()}, rel=1e-5)


# in training --------------------------------------------------------------------------------------


class Frozen(DCNObjective):
    """DCN whose rule is never called."""

    moves_centers = False


def make_target():
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def make_net(objective, *, weight=0.5, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        model = ClusteringModel(encoder, nn.Linear(3, 6), None, Centers(torch.randn(4, 3)))
    kwargs = {"max_epochs": 3, "lr": 0.05, "optimizer": torch.optim.SGD, "verbose": 0, **kwargs}
    labels = torch.zeros(40, dtype=torch.long)
    return FineTuningNet(model, JointCriterion(objective, weight), labels=labels, **kwargs)


def make_batches():
    return DomainBatches(make_target(), batch_size=8, generator=make_generator(0, "cpu"))


def weights(model):
    parts = [*model.encoder.parameters(), *model.decoder.parameters()]
    return torch.cat([p.detach().flatten() for p in parts])


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_step_of_the_network_leaves_the_centres_alone(optimizer):
    net = make_net(Frozen(), optimizer=optimizer)
    centers, before = net.module.centers.positions.detach().clone(), weights(net.module)
    net.fit(make_batches())
    assert torch.equal(net.module_.centers.positions, centers)
    assert not torch.equal(weights(net.module_), before)


def test_rule_of_the_centres_leaves_the_network_alone():
    net = make_net(DCNObjective(), lr=1e-30)
    centers, before = net.module.centers.positions.detach().clone(), weights(net.module)
    net.fit(make_batches())
    assert torch.equal(weights(net.module_), before)
    assert (net.module_.centers.positions != centers).any()


@pytest.mark.parametrize("initial_count", [5.0, 100.0])
def test_training_equals_the_two_steps_by_hand(initial_count):
    """The network by gradient, with the centres fixed; then the centres, by its new embeddings."""
    net = make_net(DCNObjective(initial_count=initial_count), max_epochs=2)
    by_hand = copy.deepcopy(net.module)
    net.fit(make_batches())

    parameters = [*by_hand.encoder.parameters(), *by_hand.decoder.parameters()]
    centers = to_numpy(by_hand.centers.positions).astype(float)
    counts = np.full(4, initial_count)
    batches = make_batches()
    for _ in range(2):
        for batch in batches:
            z, reconstruction = by_hand(batch.x)
            nearest = torch.tensor(loop_squared_distances(to_numpy(z), centers).argmin(1))
            own = torch.tensor(centers, dtype=torch.float32)[nearest]
            loss = (batch.x - reconstruction).square().sum(1).mean()
            loss = loss + 0.5 / 2 * (z - own).square().sum(1).mean()
            for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p.data -= 0.05 * gradient
            z = to_numpy(by_hand.encoder(batch.x)).astype(float)
            centers, counts = loop_running_means(z, centers, counts)
    assert_allclose(to_numpy(net.module_.centers.positions), centers, rtol=1e-4, atol=1e-5)
    assert_allclose(weights(net.module_), weights(by_hand), rtol=1e-4, atol=1e-5)
    assert net.clustering_state["counts"].tolist() == counts.tolist()


def test_counts_persist_over_epochs_and_parts_of_a_fit():
    net, batches = make_net(DCNObjective(), max_epochs=3).initialize(), make_batches()
    net.partial_fit(batches, epochs=2).partial_fit(batches, epochs=1)
    assert net.clustering_state["counts"].sum().item() == 4 * 100 + 3 * 40
    whole = make_net(DCNObjective(), max_epochs=3).fit(make_batches())
    assert torch.equal(net.module_.centers.positions, whole.module_.centers.positions)


def test_source_and_labelled_rows_do_not_move_the_centres_by_the_rule():
    # At no learning rate the centres are running means of the unlabelled target rows alone.
    net = make_net(DCNObjective(), lr=1e-30, max_epochs=1)
    source = 50 + torch.zeros(20, 6)
    y_target = torch.full((40,), -1)
    y_target[:6] = torch.tensor([0, 1, 2, 3, 0, 1])
    generator = make_generator(0, "cpu")
    batches = DomainBatches(
        make_target(), source, y_target=y_target, batch_size=64, generator=generator
    )
    with torch.no_grad():
        z = to_numpy(net.module.encoder(make_target()[6:])).astype(float)
    centers = to_numpy(net.module.centers.positions).astype(float)
    net.fit(batches)
    expected, counts = loop_running_means(z, centers, np.full(4, 100.0))
    assert_allclose(to_numpy(net.module_.centers.positions), expected, rtol=1e-5, atol=1e-6)
    assert net.clustering_state["counts"].tolist() == counts.tolist()
