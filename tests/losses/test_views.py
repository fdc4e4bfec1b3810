import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from _oracles import leaves, loop_softmax, softmax_pullback, to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sklearn_ckm.losses import balance_loss, class_consistency_loss, view_consistency_loss


def random_logits(n_samples=7, n_clusters=4, *, scale=2.0, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=(n_samples, n_clusters))


def loop_consistency(p, q):
    total = 0.0
    for a, b in zip(p, q, strict=True):
        for x, y in zip(a, b, strict=True):
            total -= (x * math.log(y) + y * math.log(x)) / 2
    return total / len(p)


def loop_balance(p, prior):
    total = 0.0
    for j, expected in enumerate(prior):
        share = sum(row[j] for row in p) / len(p)
        total += share * math.log(share / expected)
    return total


def entropy(p):
    return -(p * np.log(p)).sum(1).mean()


def consistency_of_logits(a, b):
    return view_consistency_loss(a.log_softmax(1), b.log_softmax(1))


def balance_of_logits(logits, log_prior=None):
    return balance_loss(logits.log_softmax(1), log_prior)


# agreement ----------------------------------------------------------------------------------------


def test_consistency_equals_loop(device):
    a, b = random_logits(), random_logits(seed=1)
    loss = consistency_of_logits(*leaves(device, a, b))
    assert loss.item() == pytest.approx(loop_consistency(*map(loop_softmax, (a, b))), rel=1e-12)


def test_consistency_by_hand():
    p = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    q = torch.tensor([[0.25, 0.75], [0.25, 0.75]])
    first = -(math.log(0.25) + math.log(0.75)) / 2, -math.log(0.5)
    second = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    expected = (sum(first) / 2 + second) / 2
    assert view_consistency_loss(p.log(), q.log()).item() == pytest.approx(expected, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 5))
def test_consistency_is_entropies_and_divergences(seed, scale):
    a, b = random_logits(scale=scale, seed=seed), random_logits(scale=scale, seed=seed + 1)
    p, q = loop_softmax(a), loop_softmax(b)
    loss = consistency_of_logits(torch.tensor(a), torch.tensor(b)).item()
    divergence = ((p - q) * np.log(p / q)).sum(1).mean() / 2  # Jeffreys
    assert divergence >= 0
    assert loss == pytest.approx((entropy(p) + entropy(q)) / 2 + divergence, rel=1e-10)
    swapped = consistency_of_logits(torch.tensor(b), torch.tensor(a)).item()
    assert loss == pytest.approx(swapped, rel=1e-12)


def test_consistency_is_least_where_views_agree_and_are_sure():
    sure = torch.tensor([[60.0, 0.0, 0.0], [0.0, 60.0, 0.0]]).log_softmax(1)
    unsure = torch.zeros(2, 3).log_softmax(1)
    assert 0 <= view_consistency_loss(sure, sure).item() < 1e-20
    assert view_consistency_loss(unsure, unsure).item() == pytest.approx(math.log(3), rel=1e-6)
    assert view_consistency_loss(sure, sure.flip(0)).item() == pytest.approx(60, rel=1e-6)


def test_consistency_gradient_equals_the_closed_form(device):
    a, b = random_logits(), random_logits(seed=1)
    p, q = loop_softmax(a), loop_softmax(b)
    inputs = leaves(device, a, b)
    got = torch.autograd.grad(consistency_of_logits(*inputs), inputs)
    for gradient, own, other in ((got[0], p, q), (got[1], q, p)):
        as_target = softmax_pullback(own, -np.log(other))
        expected = (as_target + own - other) / (2 * len(a))
        assert_allclose(to_numpy(gradient), expected, rtol=1e-9, atol=1e-14)
        assert np.abs(as_target).max() > 0.1  # other than with targets held fixed


def test_consistency_moves_views_that_agree_towards_certainty():
    logits = torch.tensor([[0.3, 0.0]], requires_grad=True)
    consistency_of_logits(logits, logits).backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


# agreement within a class -------------------------------------------------------------------------


def loop_class_consistency(p, y):
    """Each labelled sample with the next one of its class."""
    pairs = []
    for c in sorted({label for label in y if label >= 0}):
        members = [row for row, label in zip(p, y, strict=True) if label == c]
        pairs += pairwise(members)
    first, second = zip(*pairs, strict=True)
    return loop_consistency(first, second)


def test_class_consistency_equals_loop(device):
    logits, y = random_logits(9), [2, 0, -1, 2, 1, 0, 2, -1, 0]
    (leaf,) = leaves(device, logits)
    loss = class_consistency_loss(leaf.log_softmax(1), torch.tensor(y, device=device))
    assert loss.item() == pytest.approx(loop_class_consistency(loop_softmax(logits), y), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, leaf)
    moved = np.abs(to_numpy(gradient)).sum(1) > 0
    assert moved.tolist() == [label in (0, 2) for label in y]  # class 1 has one sample alone


@pytest.mark.parametrize("y", [[0, 1, 2], [-1, -1, -1], [0]])
def test_class_consistency_without_a_pair_is_zero(y):
    logits = torch.tensor(random_logits(len(y)), requires_grad=True)
    loss = class_consistency_loss(logits.log_softmax(1), torch.tensor(y))
    assert loss.item() == 0
    loss.backward()
    assert not logits.grad.any()


# balance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [None, (0.1, 0.2, 0.3, 0.4)])
def test_balance_equals_loop(device, prior):
    logits = random_logits()
    log_prior = None if prior is None else torch.tensor(prior, device=device).double().log()
    loss = balance_of_logits(*leaves(device, logits), log_prior)
    expected = loop_balance(loop_softmax(logits), prior or [1 / 4] * 4)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_balance_by_hand():
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])  # shares 3/4 and 1/4
    even = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert balance_loss(p.log()).item() == pytest.approx(even, rel=1e-6)
    prior = torch.tensor([0.75, 0.25])
    assert balance_loss(p.log(), prior.log()).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("n_clusters", [1, 2, 5])
def test_balance_at_its_ends(n_clusters):
    sure = (100 * torch.eye(n_clusters)).log_softmax(1)
    assert balance_loss(sure).item() == pytest.approx(0, abs=1e-6)
    one = balance_loss(sure[:1].expand(6, -1)).item()
    assert one == pytest.approx(math.log(n_clusters), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 5), n_samples=st.integers(1, 9))
def test_balance_lies_between_zero_and_that_of_single_rows(seed, scale, n_samples):
    logits = torch.tensor(random_logits(n_samples, scale=scale, seed=seed))
    loss = balance_of_logits(logits).item()
    assert -1e-12 <= loss <= math.log(4)
    rows = [balance_of_logits(row).item() for row in logits.split(1)]
    assert loss <= np.mean(rows) + 1e-12
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(seed))
    twice = torch.cat([logits[order], logits])
    assert balance_of_logits(twice).item() == pytest.approx(loss, rel=1e-9, abs=1e-12)


def test_balance_gradient_equals_the_closed_form(device):
    logits, prior = random_logits(), np.array([0.1, 0.2, 0.3, 0.4])
    p = loop_softmax(logits)
    pull = np.broadcast_to(np.log(p.mean(0) / prior) + 1, p.shape)
    inputs = leaves(device, logits)
    loss = balance_of_logits(*inputs, torch.tensor(prior, device=device).log())
    (got,) = torch.autograd.grad(loss, inputs)
    expected = softmax_pullback(p, pull) / len(p)
    assert_allclose(to_numpy(got), expected, rtol=1e-9, atol=1e-14)


def test_balance_leaves_sure_rows_of_equal_shares_alone():
    logits = (20 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    balance_of_logits(logits).backward()
    assert logits.grad.abs().max() < 1e-12


# both ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 1e4))
def test_far_logits_stay_finite(seed, scale):
    a, b = (
        torch.tensor(random_logits(scale=scale, seed=s), dtype=torch.float32, requires_grad=True)
        for s in (seed, seed + 1)
    )
    loss = consistency_of_logits(a, b) + balance_of_logits(a)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


@pytest.mark.parametrize("shape", [(5, 3), (1, 2), (4, 1)])
def test_gradcheck(shape):
    a, b = leaves("cpu", random_logits(*shape), random_logits(*shape, seed=1))
    log_prior = torch.tensor(random_logits(1, shape[1])[0]).log_softmax(0)
    assert torch.autograd.gradcheck(consistency_of_logits, (a, b))
    assert torch.autograd.gradcheck(balance_of_logits, (a,))
    assert torch.autograd.gradcheck(balance_of_logits, (a, log_prior))


def test_do_not_change_their_inputs():
    inputs = [torch.tensor(random_logits(seed=s)).log_softmax(1) for s in (0, 1)]
    inputs.append(torch.full((4,), 0.25).log())
    copies = [x.clone() for x in inputs]
    view_consistency_loss(*inputs[:2])
    balance_loss(inputs[0], inputs[2])
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, copies, strict=True))
