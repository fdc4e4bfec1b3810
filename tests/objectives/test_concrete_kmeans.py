import numpy as np
import pytest
import torch
from _oracles import (
    leaves,
    loop_kmeans_loss,
    loop_softmax,
    loop_squared_distances,
    random_clusters,
    to_numpy,
)
from sklearn.base import clone

from sklearn_ckm.losses import concrete_kmeans_loss, straight_through_assignment
from sklearn_ckm.modules import Centers
from sklearn_ckm.objectives import BaseClusteringObjective, ConcreteKMeansObjective
from sklearn_ckm.objectives import _concrete_kmeans as module
from sklearn_ckm.objectives._resolve import resolve_objective
from sklearn_ckm.utils._random import make_generator


def step(objective, z, centers, temperature=1.0, *, progress=0.0, seed=0):
    return objective.step(
        z, centers, temperature, progress=progress, generator=make_generator(seed, z.device)
    )


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "C"}, "Expected 'form' among .*got 'C'"),
        ({"form": "a"}, "Expected 'form' among"),
        ({"estimator": "st"}, "Expected 'estimator' among .*got 'st'"),
        ({"relaxation": 0}, r"Expected 'relaxation' .*\(positive\).*got 0"),
        ({"relaxation": -1.0}, "Expected 'relaxation'"),
        ({"relaxation": float("nan")}, "Expected 'relaxation'"),
        ({"relaxation": float("inf")}, "Expected 'relaxation'"),
        ({"relaxation": (1.0, 0.0)}, r"Expected 'relaxation' .*got \(1.0, 0.0\)"),
        ({"relaxation": (1.0, 0.5, 0.1)}, "pair"),
        ({"relaxation": (1.0,)}, "pair"),
        ({"relaxation": "1"}, "Expected 'relaxation'"),
        ({"relaxation": None}, "Expected 'relaxation'"),
        ({"noise": -0.1}, r"Expected 'noise' .*\(at least 0\).*got -0.1"),
        ({"noise": (1.0, -1.0)}, "Expected 'noise'"),
        ({"noise": float("inf")}, "Expected 'noise'"),
    ],
)
def test_settings_that_make_no_sense_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        ConcreteKMeansObjective(**settings).check_settings()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"form": "A", "estimator": "gumbel", "relaxation": (1.0, 0.1)},
        {"noise": 0},
        {"noise": (1, 0)},
        {"noise": [1.0, 0.0]},
        {"relaxation": np.float32(0.5)},
        {"relaxation": lambda progress: 1 - progress / 2},
    ],
)
def test_settings_that_make_sense_pass(settings):
    ConcreteKMeansObjective(**settings).check_settings()


def test_clone_and_parameters():
    objective = ConcreteKMeansObjective(form="A", noise=(1.0, 0.0), reseed_empty=True)
    copy = clone(objective)
    assert copy is not objective
    assert copy.get_params() == {
        "form": "A",
        "estimator": "reinmax",
        "relaxation": 1.0,
        "noise": (1.0, 0.0),
        "reseed_empty": True,
    }
    assert copy.set_params(noise=0.5).noise == 0.5
    assert objective.noise == (1.0, 0.0)


def test_base_objective_defines_no_step():
    class Unfinished(BaseClusteringObjective):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished does not define 'step'"):
        step(Unfinished(), torch.zeros(2, 2), torch.zeros(2, 2))


def test_resolve_by_name_gives_the_defaults():
    assert resolve_objective("ckm").get_params() == ConcreteKMeansObjective().get_params()


def test_resolve_clones_and_checks():
    objective = ConcreteKMeansObjective(noise=0.5)
    resolved = resolve_objective(objective)
    assert resolved is not objective
    assert resolved.noise == 0.5
    with pytest.raises(ValueError, match="Expected 'noise'"):
        resolve_objective(ConcreteKMeansObjective(noise=-1))


def test_resolve_errors():
    with pytest.raises(ValueError, match=r"'objective' among \['ckm', 'dcn',.*got 'kmeans'"):
        resolve_objective("kmeans")
    with pytest.raises(TypeError, match="instance of BaseClusteringObjective, got"):
        resolve_objective(ConcreteKMeansObjective)


# the step -----------------------------------------------------------------------------------------


def test_log_probabilities(device):
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    logits = ConcreteKMeansObjective().log_probabilities(
        torch.tensor(distances, device=device), torch.tensor(2.5, device=device)
    )
    np.testing.assert_allclose(np.exp(to_numpy(logits)), loop_softmax(-distances / 2.5), rtol=1e-12)


def test_step_says_what_it_did(device):
    z, centers = random_clusters()
    result = step(ConcreteKMeansObjective(noise=0.0), *leaves(device, z, centers), 2.0)
    distances = loop_squared_distances(z, centers)
    assert result.loss.item() == pytest.approx(loop_kmeans_loss(z, centers), rel=1e-12)
    np.testing.assert_allclose(to_numpy(result.distances), distances, rtol=1e-12)
    assert result.choice.tolist() == distances.argmin(1).tolist()
    assert result.loss.requires_grad


@pytest.mark.parametrize("form", ["A", "B"])
@pytest.mark.parametrize("estimator", ["gumbel", "straight-through", "reinmax", "soft"])
def test_schedules_reach_the_loss(form, estimator):
    z, centers = random_clusters()
    objective = ConcreteKMeansObjective(
        form=form, estimator=estimator, relaxation=(2.0, 0.5), noise=lambda progress: 1 - progress
    )
    z, centers = leaves("cpu", z, centers)
    result = step(objective, z, centers, 2.0, progress=0.5, seed=3)
    got = torch.autograd.grad(result.loss, (z, centers))

    logits = (-(z[:, None] - centers).square().sum(-1) / 2.0).log_softmax(1)
    assignment, choice = straight_through_assignment(
        logits,
        relaxation=1.0,
        noise=0.5,
        estimator=estimator,
        generator=make_generator(3, "cpu"),
    )
    loss = concrete_kmeans_loss(z, centers, assignment, form=form)
    expected = torch.autograd.grad(loss, (z, centers))
    assert torch.equal(result.choice, choice)
    assert result.loss.item() == pytest.approx(loss.item(), rel=1e-12)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_no_gradient_flows_through_an_adaptive_temperature():
    z, positions = (a.float() for a in map(torch.tensor, random_clusters()))
    centers = Centers(positions)
    z.requires_grad_()
    objective = ConcreteKMeansObjective(estimator="soft")
    followed = step(objective, z, centers.positions, centers.follow)
    fixed = step(objective, z, centers.positions, centers.temperature.clone())
    inputs = z, centers.positions
    for a, b in zip(
        torch.autograd.grad(followed.loss, inputs),
        torch.autograd.grad(fixed.loss, inputs),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert not centers.temperature.requires_grad


def test_invalid_value_of_a_callable_raises_when_it_is_reached():
    objective = ConcreteKMeansObjective(relaxation=lambda progress: 0.5 - progress)
    objective.check_settings()
    z, centers = map(torch.tensor, random_clusters())
    step(objective, z, centers)
    with pytest.raises(ValueError, match="Expected a positive relaxation"):
        step(objective, z, centers, progress=0.75)


# behaviour ----------------------------------------------------------------------------------------


def final_spread_ratio(temperature, objective):
    """Spread of trained centres over that of the true ones, in a small fixed embedding."""
    rng = np.random.default_rng(0)
    means = 0.1 * rng.normal(size=(5, 10))
    z = np.repeat(means, 12, axis=0) + 0.03 * rng.normal(size=(60, 10))
    z, means = (torch.tensor(a, dtype=torch.float32) for a in (z, means))
    centers = Centers(means, temperature)
    centers.calibrate((z[:, None] - means).square().sum(-1))
    optimizer = torch.optim.Adam(centers.parameters(), lr=2e-3)
    generator = make_generator(0, "cpu")
    for _ in range(300):
        optimizer.zero_grad()
        result = objective.step(
            z, centers.positions, centers.follow, progress=0.0, generator=generator
        )
        result.loss.backward()
        optimizer.step()
    positions = centers.positions.detach()
    return (positions.var(0).sum() / means.var(0).sum()).item()


def test_literal_temperature_collapses_the_centers_and_the_adaptive_one_does_not():
    literal = ConcreteKMeansObjective(form="A", estimator="gumbel", noise=1.0)
    assert final_spread_ratio(1.0, literal) < 0.05
    assert final_spread_ratio("auto", literal) > 0.8


@pytest.mark.parametrize("estimator", ["gumbel", "straight-through", "reinmax", "soft"])
def test_doubled_centers_give_finite_losses_and_gradients(estimator):
    # Most rows coincide and two centres lie upon them: the median gap is zero.
    z = torch.cat([torch.zeros(8, 2), torch.tensor([[30.0, 0.0], [0.0, 40.0]])]).requires_grad_()
    centers = Centers(torch.tensor([[0.0, 0.0], [0.0, 0.0], [15.0, 20.0]]))
    centers.calibrate((z.detach()[:, None] - centers.positions.detach()).square().sum(-1))
    objective = ConcreteKMeansObjective(estimator=estimator)
    result = step(objective, z, centers.positions, centers.follow)
    values = result.loss, result.logits, *torch.autograd.grad(result.loss, (z, centers.positions))
    for value in values:
        assert not value.isnan().any()


@pytest.mark.parametrize(("noise", "expected"), [((1.0, 0.0), 0.5), ((0.0, 0.4), 0.2)])
def test_noise_is_scheduled_linearly(monkeypatch, noise, expected):
    seen, assign = [], module.straight_through_assignment

    def spy(logits, **kwargs):
        seen.append(kwargs["noise"])
        return assign(logits, **kwargs)

    monkeypatch.setattr(module, "straight_through_assignment", spy)
    objective = ConcreteKMeansObjective(noise=noise)
    objective.step(torch.randn(5, 2), torch.randn(3, 2), torch.tensor(1.0), progress=0.5)
    assert seen == [pytest.approx(expected)]
