import math

import numpy as np
import pytest
import torch
from _oracles import loop_squared_distances, random_clusters
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_ckm.losses import factorization_loss, graph_loss


def loop_binary_entropy(logits):
    """Mean over rows of the summed binary entropies of the sigmoids."""
    total = 0.0
    for value in np.ravel(logits):
        p = 1 / (1 + math.exp(-value))
        total -= p * math.log(p) + (1 - p) * math.log(1 - p)
    return total / len(logits)


def random_graph(n_samples=7, seed=0):
    """Symmetric, non-negative weights with some pairs left apart."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(size=(n_samples, n_samples)) * (rng.random((n_samples, n_samples)) < 0.5)
    return torch.tensor(weights + weights.T)


def laplacian(affinity):
    return torch.diag(affinity.sum(1)) - affinity


# factors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_factors", [1, 3, 50])
def test_entropy_is_largest_where_every_factor_is_one_half(device, n_factors):
    logits = torch.zeros(4, n_factors, dtype=torch.float64, device=device)
    largest = factorization_loss(logits).item()
    assert largest == pytest.approx(n_factors * math.log(2), rel=1e-13)
    logits[0, 0] = 0.1
    assert factorization_loss(logits).item() < largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_is_zero_at_the_ends(device, dtype):
    logits = torch.tensor([[1e3, -1e3], [-60.0, 60.0]], dtype=dtype, device=device)
    logits.requires_grad_()
    loss = factorization_loss(logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(loss.item()) < 1e-20
    assert torch.isfinite(gradient).all()


def test_entropy_equals_loop(device):
    logits = np.random.default_rng(0).normal(scale=3, size=(5, 4))
    loss = factorization_loss(torch.tensor(logits, device=device))
    assert loss.item() == pytest.approx(loop_binary_entropy(logits), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(value=st.floats(0.01, 20), sign=st.sampled_from([-1, 1]))
def test_descent_pushes_away_from_one_half(value, sign):
    logits = torch.tensor([[sign * value]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(factorization_loss(logits), logits)
    assert -gradient.item() * sign > 0  # larger logits where on, smaller where off
    p = 1 / (1 + math.exp(-value))
    assert gradient.item() == pytest.approx(-sign * value * p * (1 - p), rel=1e-6)


def test_entropy_is_the_same_for_on_and_off():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(5, 4)))
    torch.testing.assert_close(factorization_loss(-logits), factorization_loss(logits))


def test_entropy_sums_over_factors_and_averages_over_samples():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(5, 4)))
    loss = factorization_loss(logits)
    torch.testing.assert_close(factorization_loss(torch.cat([logits, logits])), loss)
    torch.testing.assert_close(factorization_loss(torch.cat([logits, logits], 1)), 2 * loss)


def test_factorization_gradcheck():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(factorization_loss, (logits,))


# graph ------------------------------------------------------------------------------------------


def test_graph_by_hand(device):
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], device=device)
    affinity = torch.tensor([[0.0, 0.5, 2.0], [0.5, 0.0, 0.0], [2.0, 0.0, 0.0]], device=device)
    assert graph_loss(z, affinity).item() == pytest.approx((2 * 0.5 * 25 + 2 * 2 * 1) / 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_graph_is_twice_the_trace_with_the_laplacian(seed):
    z = torch.tensor(random_clusters(7, seed=seed)[0])
    affinity = random_graph(seed=seed)
    expected = 2 * torch.trace(z.T @ laplacian(affinity) @ z) / 7
    torch.testing.assert_close(graph_loss(z, affinity), expected)
    pairs = (affinity.numpy() * loop_squared_distances(z.numpy(), z.numpy())).sum() / 7
    assert graph_loss(z, affinity).item() == pytest.approx(pairs, rel=1e-12)


def test_graph_is_zero_only_where_constant_on_connected_components():
    affinity = torch.zeros(5, 5, dtype=torch.float64)
    for i, j in [(0, 1), (1, 2), (3, 4)]:  # two components: a path, a pair
        affinity[i, j] = affinity[j, i] = 0.7
    z = torch.tensor([[1.0, 2.0]] * 3 + [[-4.0, 0.5]] * 2, dtype=torch.float64)
    assert graph_loss(z, affinity).item() == 0
    for i in range(5):
        moved = z.clone()
        moved[i, 0] += 1e-3
        assert graph_loss(moved, affinity).item() > 0
    affinity[2, 3] = affinity[3, 2] = 0.1  # now one component
    assert graph_loss(z, affinity).item() > 0


def test_graph_is_invariant_to_translation_and_quadratic_in_scale():
    z, affinity = torch.tensor(random_clusters(7)[0]), random_graph()
    loss = graph_loss(z, affinity)
    torch.testing.assert_close(graph_loss(z + 5, affinity), loss)
    torch.testing.assert_close(graph_loss(3 * z, affinity), 9 * loss)


def test_graph_gradient_is_the_laplacian_of_the_embeddings():
    z, affinity = torch.tensor(random_clusters(7)[0], requires_grad=True), random_graph()
    (gradient,) = torch.autograd.grad(graph_loss(z, affinity), z)
    torch.testing.assert_close(gradient, 4 * laplacian(affinity) @ z.detach() / 7)


def test_graph_gradcheck():
    z = torch.tensor(random_clusters(5)[0], requires_grad=True)
    affinity = random_graph(5).requires_grad_()
    assert torch.autograd.gradcheck(graph_loss, (z, affinity))


def test_does_not_change_its_inputs():
    z, affinity = torch.tensor(random_clusters(7)[0]), random_graph()
    copies = z.clone(), affinity.clone()
    graph_loss(z, affinity), factorization_loss(z)
    assert torch.equal(z, copies[0])
    assert torch.equal(affinity, copies[1])
