import numpy as np
import pytest
import torch
from _oracles import (
    expected_distance_gradient,
    leaves,
    loop_kmeans_loss,
    loop_softmax,
    loop_squared_distances,
    random_clusters,
    to_numpy,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_ckm.losses import soft_kmeans_loss, squared_distances


def loop_soft_kmeans_loss(distances, probabilities):
    total = 0.0
    for d, p in zip(distances, probabilities, strict=True):
        total += sum(a * b for a, b in zip(d, p, strict=True))
    return total / len(distances)


def soft_loss(z, centers, sharpness=1.0):
    distances = squared_distances(z, centers)
    return soft_kmeans_loss(distances, (-sharpness * distances).log_softmax(1))


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_equals_loop(device, sharpness):
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    loss = soft_loss(*leaves(device, z, centers), sharpness)
    expected = loop_soft_kmeans_loss(distances, loop_softmax(-sharpness * distances))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    distances = torch.tensor([[1.0, 5.0], [4.0, 2.0]])
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert soft_kmeans_loss(distances, p.log()).item() == pytest.approx((2 + 3) / 2, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), sharpness=st.floats(1e-3, 1e3))
def test_lies_between_the_hard_loss_and_the_mean_distance(seed, sharpness):
    z, centers = random_clusters(seed=seed)
    loss = soft_loss(torch.tensor(z), torch.tensor(centers), sharpness).item()
    assert loop_kmeans_loss(z, centers) * (1 - 1e-12) <= loss
    assert loss <= loop_squared_distances(z, centers).mean() * (1 + 1e-12)


def test_ends_of_the_sharpness():
    z, centers = random_clusters()
    inputs = torch.tensor(z), torch.tensor(centers)
    mean = loop_squared_distances(z, centers).mean()
    assert soft_loss(*inputs, 1e-9).item() == pytest.approx(mean, rel=1e-6)
    assert soft_loss(*inputs, 1e6).item() == pytest.approx(loop_kmeans_loss(z, centers), rel=1e-12)
    assert mean > 2 * loop_kmeans_loss(z, centers)


def test_single_centre_is_the_mean_square():
    z, centers = random_clusters(n_clusters=1)
    loss = soft_loss(torch.tensor(z), torch.tensor(centers))
    assert loss.item() == pytest.approx(np.square(z - centers).sum(1).mean(), rel=1e-13)


def test_cluster_of_no_probability_has_no_influence():
    distances = torch.tensor([[1.0, 9.0]], requires_grad=True)
    log_p = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = soft_kmeans_loss(distances, log_p)
    gradients = torch.autograd.grad(loss, (distances, log_p))
    assert loss.item() == 1
    assert [gradient.tolist() for gradient in gradients] == [[[1.0, 0.0]], [[1.0, 0.0]]]


def test_gradient_is_direct_and_through_the_probabilities(device):
    z, centers = random_clusters()
    distances = loop_squared_distances(z, centers)
    p = loop_softmax(-distances)
    pull = (p - expected_distance_gradient(-distances, distances)) / len(z)  # dL / dd
    expected_z = np.array([2 * row @ (z[i] - centers) for i, row in enumerate(pull)])
    expected_centers = np.array([-2 * pull[:, j] @ (z - c) for j, c in enumerate(centers)])
    inputs = leaves(device, z, centers)
    got = torch.autograd.grad(soft_loss(*inputs), inputs)
    np.testing.assert_allclose(to_numpy(got[0]), expected_z, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(to_numpy(got[1]), expected_centers, rtol=1e-10, atol=1e-14)
    direct_only = np.array([2 * row @ (z[i] - centers) for i, row in enumerate(p / len(z))])
    assert np.abs(expected_z - direct_only).max() > 0.01


def test_gradcheck():
    assert torch.autograd.gradcheck(soft_loss, leaves("cpu", *random_clusters(5, 3, 2)))


def test_does_not_change_its_inputs():
    distances = torch.tensor(loop_squared_distances(*random_clusters()))
    log_p = (-distances).log_softmax(1)
    copies = distances.clone(), log_p.clone()
    soft_kmeans_loss(distances, log_p)
    assert torch.equal(distances, copies[0])
    assert torch.equal(log_p, copies[1])
