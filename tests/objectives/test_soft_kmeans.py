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
from numpy.testing import assert_allclose

from sklearn_ckm.modules import Centers
from sklearn_ckm.objectives import ConcreteKMeansObjective, SoftKMeansObjective


def soft_loss(z, centers, scale):
    """Mean over rows of sum_j softmax(-scale d)_j d_j."""
    distances = loop_squared_distances(z, centers)
    return (loop_softmax(-scale * distances) * distances).sum(1).mean()


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sharpness", "message"),
    [
        (0, r"Expected 'sharpness' .*\(positive\).*got 0"),
        (-1.0, "Expected 'sharpness' .*got -1.0"),
        (float("nan"), "Expected 'sharpness' .*got nan"),
        (float("inf"), "Expected 'sharpness' .*got inf"),
        ((0.1, 0.0), r"Expected 'sharpness' .*got \(0.1, 0.0\)"),
        ((1.0, 2.0, 3.0), "pair"),
        ("1", "Expected 'sharpness' .*got '1'"),
        (None, "Expected 'sharpness' .*got None"),
    ],
)
def test_settings_that_make_no_sense_raise(sharpness, message):
    with pytest.raises(ValueError, match=message):
        SoftKMeansObjective(sharpness=sharpness).check_settings()


@pytest.mark.parametrize("sharpness", [1, 0.1, (0.1, 10.0), [1, 2], lambda progress: 1 + progress])
def test_settings_that_make_sense_pass(sharpness):
    SoftKMeansObjective(sharpness=sharpness).check_settings()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_invalid_value_of_a_callable_raises_when_it_is_reached(value):
    objective = SoftKMeansObjective(sharpness=lambda progress: 1.0 if progress < 0.5 else value)
    objective.check_settings()
    z, centers = map(torch.tensor, random_clusters())
    objective.step(z, centers, 1.0)
    with pytest.raises(ValueError, match=f"Expected a positive sharpness, got {value!r}"):
        objective.step(z, centers, 1.0, progress=0.75)


# the step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 6.0])
def test_step_says_what_it_did(device, sharpness, temperature):
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    result = SoftKMeansObjective(sharpness=sharpness).step(
        *leaves(device, z, centers), torch.tensor(temperature, device=device)
    )
    expected = soft_loss(z, centers, sharpness / temperature)
    assert result.loss.item() == pytest.approx(expected, rel=1e-12)
    assert_allclose(to_numpy(result.distances), distances, rtol=1e-12)
    # what predict_proba gives does not depend on the sharpness
    assert_allclose(
        np.exp(to_numpy(result.logits)), loop_softmax(-distances / temperature), rtol=1e-11
    )
    assert result.choice.tolist() == distances.argmin(1).tolist()


def test_literal_form_at_unit_temperature():
    """Eq. 3 of the paper, with the smallest distance taken off as in the authors' code."""
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    kernel = np.exp(-3.0 * (distances - distances.min(1, keepdims=True)))
    expected = (kernel / kernel.sum(1, keepdims=True) * distances).sum(1).mean()
    got = SoftKMeansObjective(sharpness=3.0).step(torch.tensor(z), torch.tensor(centers), 1.0)
    assert got.loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("sharpness", "progress", "value"),
    [
        ((0.1, 10.0), 0.0, 0.1),
        ((0.1, 10.0), 0.5, 1.0),
        ((4.0, 1.0), 0.5, 2.0),
        (lambda progress: 1 + progress, 0.25, 1.25),
    ],
)
def test_schedule_reaches_the_loss(sharpness, progress, value):
    z, centers = random_clusters()
    result = SoftKMeansObjective(sharpness=sharpness).step(
        torch.tensor(z), torch.tensor(centers), 2.0, progress=progress
    )
    assert result.loss.item() == pytest.approx(soft_loss(z, centers, value / 2), rel=1e-12)


def test_large_sharpness_is_kmeans_and_small_one_the_mean_distance():
    z, centers = random_clusters()
    inputs = torch.tensor(z), torch.tensor(centers)
    sharp, dull = (
        SoftKMeansObjective(sharpness=value).step(*inputs, 1.0).loss.item() for value in (1e6, 1e-9)
    )
    assert sharp == pytest.approx(loop_kmeans_loss(z, centers), rel=1e-12)
    assert dull == pytest.approx(loop_squared_distances(z, centers).mean(), rel=1e-6)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
def test_is_the_soft_estimator_of_concrete_kmeans(device, sharpness):
    """Two implementations of one loss: the sharpness is the inverse of the relaxation."""
    inputs = leaves(device, *random_clusters())
    temperature = torch.tensor(1.7, device=device)
    concrete = ConcreteKMeansObjective(estimator="soft", relaxation=1 / sharpness)
    soft = SoftKMeansObjective(sharpness=sharpness)
    losses = [objective.step(*inputs, temperature).loss for objective in (concrete, soft)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, inputs) for loss in losses]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_gradcheck():
    inputs = leaves("cpu", *random_clusters(5, 3, 2))
    objective = SoftKMeansObjective(sharpness=1.5)
    assert torch.autograd.gradcheck(lambda z, c: objective.step(z, c, 2.0).loss, inputs)


def test_no_gradient_flows_through_an_adaptive_temperature():
    z, positions = (torch.tensor(a, dtype=torch.float32) for a in random_clusters())
    centers = Centers(positions)
    z.requires_grad_()
    objective = SoftKMeansObjective(sharpness=0.5)
    followed = objective.step(z, centers.positions, centers.follow)
    fixed = objective.step(z, centers.positions, centers.temperature.clone())
    assert centers.temperature.item() != 1.0
    inputs = z, centers.positions
    for a, b in zip(
        torch.autograd.grad(followed.loss, inputs),
        torch.autograd.grad(fixed.loss, inputs),
        strict=True,
    ):
        assert torch.equal(a, b)
