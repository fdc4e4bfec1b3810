import math

import numpy as np
import pytest
import torch
from _oracles import loop_softmax, random_clusters
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ortho_group

from sklearn_ckm.losses import entropy_loss, support_similarity

scales = st.floats(1e-3, 1e3)
logits = st.integers(1, 6).flatmap(
    lambda n: arrays(np.float64, (3, n), elements=st.floats(-50, 50, allow_subnormal=False))
)


def pair(seed=0):
    query, support = random_clusters(seed=seed)
    return torch.tensor(query), torch.tensor(support)


# similarity -------------------------------------------------------------------------------------


def test_similarity_by_hand(device):
    query = torch.tensor([[2.0, 1.0], [0.0, -1.0]], device=device)
    support = torch.tensor([[3.0, 4.0], [0.0, 0.1]], device=device)
    expected = [[2 * 0.6 + 0.8, 1.0], [-0.8, -1.0]]
    np.testing.assert_allclose(support_similarity(query, support).tolist(), expected, rtol=1e-6)


def test_similarity_equals_loop():
    query, support = pair()
    expected = [[row @ s / math.sqrt(s @ s) for s in support.numpy()] for row in query.numpy()]
    np.testing.assert_allclose(support_similarity(query, support).numpy(), expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=scales)
def test_similarity_scales_with_the_query(seed, scale):
    query, support = pair(seed)
    scaled = support_similarity(scale * query, support)
    torch.testing.assert_close(scaled, scale * support_similarity(query, support))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=scales)
def test_similarity_does_not_depend_on_the_length_of_the_support(seed, scale):
    query, support = pair(seed)
    plain = support_similarity(query, support)
    torch.testing.assert_close(support_similarity(query, scale * support), plain)
    assert not torch.allclose(query @ (2 * support).T, query @ support.T)  # the plain product does


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_similarity_is_invariant_to_rotation(seed):
    query, support = pair(seed)
    rotation = torch.tensor(ortho_group.rvs(3, random_state=seed))
    torch.testing.assert_close(
        support_similarity(query @ rotation, support @ rotation), support_similarity(query, support)
    )


def test_similarity_to_an_empty_class_is_zero():
    query, support = pair()
    support[1] = 0
    similarity = support_similarity(query, support)
    assert (similarity[:, 1] == 0).all()
    assert (similarity[:, [0, 2, 3]] != 0).all()


def test_similarity_gradcheck():
    inputs = [x.requires_grad_() for x in pair()]
    assert torch.autograd.gradcheck(support_similarity, inputs)


# entropy ----------------------------------------------------------------------------------------


def test_entropy_equals_loop(device):
    rng = np.random.default_rng(0)
    values = rng.normal(scale=2, size=(5, 4))
    soft = loop_softmax(values / 1.7)
    expected = np.mean([-sum(p * math.log(p) for p in row) for row in soft])
    loss = entropy_loss(torch.tensor(values, device=device), 1.7)
    assert loss.item() == pytest.approx(expected, rel=1e-13)


@settings(max_examples=100, deadline=None)
@given(values=logits, temperature=scales)
def test_entropy_lies_between_zero_and_the_logarithm_of_the_number_of_classes(values, temperature):
    loss = entropy_loss(torch.tensor(values), temperature).item()
    assert -1e-12 <= loss <= math.log(values.shape[1]) + 1e-12


@pytest.mark.parametrize("n_classes", [1, 2, 5, 100])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_entropy_of_constant_logits_is_the_largest(device, n_classes, temperature):
    values = torch.full((4, n_classes), -2.5, dtype=torch.float64, device=device)
    loss = entropy_loss(values, temperature).item()
    assert loss == pytest.approx(math.log(n_classes), rel=1e-13, abs=1e-15)


@settings(max_examples=50, deadline=None)
@given(values=logits, temperature=st.floats(0.05, 20), factor=st.floats(1, 10))
def test_entropy_grows_with_the_temperature(values, temperature, factor):
    values = torch.tensor(values)
    warmer = entropy_loss(values, factor * temperature).item()
    assert warmer >= entropy_loss(values, temperature).item() - 1e-12


def test_entropy_grows_strictly_where_the_logits_differ():
    values = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    losses = [entropy_loss(values, t).item() for t in (0.1, 0.5, 1.0, 2.0, 10.0, 100.0)]
    assert (np.diff(losses) > 0).all()
    assert losses[0] < 1e-6
    assert losses[-1] == pytest.approx(math.log(3), abs=1e-3)


def test_entropy_is_invariant_to_a_constant_per_row():
    values = torch.tensor(np.random.default_rng(0).normal(size=(4, 3)))
    shifted = values + torch.tensor([[5.0], [-7.0], [0.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(entropy_loss(shifted, 2.0), entropy_loss(values, 2.0))


def test_entropy_of_far_logits_is_finite_and_so_is_its_gradient(device):
    values = torch.tensor([[1e4, -1e4, 0.0]], device=device, requires_grad=True)
    loss = entropy_loss(values)
    (gradient,) = torch.autograd.grad(loss, values)
    assert loss.item() == 0
    assert torch.isfinite(gradient).all()


def test_entropy_gradcheck():
    values = torch.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: entropy_loss(v, 1.7), (values,))


def test_does_not_change_its_inputs():
    query, support = pair()
    copies = query.clone(), support.clone()
    entropy_loss(support_similarity(query, support), 2.0)
    assert torch.equal(query, copies[0])
    assert torch.equal(support, copies[1])
