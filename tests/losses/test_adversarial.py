import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_ckm.losses import domain_confusion_loss, domain_discrimination_loss

# torch's softplus is the identity above 20, which is 1e-10 off there
logits = st.lists(st.floats(-30, 30), min_size=1, max_size=6)


def tensor(values, device="cpu"):
    return torch.tensor(values, dtype=torch.float64, device=device)


def log_sigmoid(value):
    return -math.log1p(math.exp(-value)) if value > 0 else value - math.log1p(math.exp(value))


def loop_discrimination(source, target):
    of_source = sum(-log_sigmoid(value) for value in source) / len(source)
    return of_source + sum(-log_sigmoid(-value) for value in target) / len(target)


@settings(max_examples=50, deadline=None)
@given(source=logits, target=logits)
def test_discrimination_equals_loop_and_is_not_negative(source, target):
    loss = domain_discrimination_loss(tensor(source), tensor(target)).item()
    assert loss >= 0
    assert loss == pytest.approx(loop_discrimination(source, target), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(target=logits)
def test_confusion_equals_loop(target):
    expected = sum(-log_sigmoid(value) for value in target) / len(target)
    assert domain_confusion_loss(tensor(target)).item() == pytest.approx(expected, rel=1e-9)


def test_by_hand(device):
    # A discriminator that says "source" with probability 3/4 and 1/2, then 1/4.
    source, target = tensor([math.log(3), 0.0], device), tensor([-math.log(3)], device)
    expected = (math.log(4 / 3) + math.log(2)) / 2 + math.log(4 / 3)
    assert domain_discrimination_loss(source, target).item() == pytest.approx(expected, rel=1e-14)
    assert domain_confusion_loss(target).item() == pytest.approx(math.log(4), rel=1e-14)


@pytest.mark.parametrize("n_source", [1, 3, 50])
def test_undecided_discriminator_costs_twice_log_two_whatever_the_sizes(device, n_source):
    source, target = tensor([0.0] * n_source, device), tensor([0.0] * 7, device)
    loss = domain_discrimination_loss(source, target).item()
    assert loss == pytest.approx(2 * math.log(2), rel=1e-14)


@settings(max_examples=50, deadline=None)
@given(source=logits, target=logits)
def test_players_are_mirror_images_with_swapped_labels(source, target):
    # What the encoders pay is what the discriminator would if the domains swapped names.
    source, target = tensor(source), tensor(target)
    encoders = domain_confusion_loss(target) + domain_confusion_loss(-source)
    assert encoders.item() == pytest.approx(domain_discrimination_loss(target, source).item())
    mirrored = domain_discrimination_loss(-target, -source)
    assert mirrored.item() == pytest.approx(domain_discrimination_loss(source, target).item())


def test_players_pull_in_opposite_directions():
    target = tensor(np.linspace(-3, 3, 7)).requires_grad_()
    source = tensor([0.0])
    (of_discriminator,) = torch.autograd.grad(domain_discrimination_loss(source, target), target)
    (of_encoder,) = torch.autograd.grad(domain_confusion_loss(target), target)
    assert (of_discriminator > 0).all()
    assert (of_encoder < 0).all()
    # sigmoid(t) + sigmoid(-t) = 1: where one hardly pulls, the other does
    torch.testing.assert_close(of_discriminator - of_encoder, torch.full_like(target, 1 / 7))


def test_far_logits_stay_finite(device):
    far = torch.tensor([1e4, -1e4], device=device)
    assert domain_discrimination_loss(far, far).item() == pytest.approx(1e4)
    assert domain_confusion_loss(far).item() == pytest.approx(5e3)


def test_gradcheck():
    rng = np.random.default_rng(0)
    source, target = (tensor(rng.normal(size=n)).requires_grad_() for n in (4, 3))
    assert torch.autograd.gradcheck(domain_discrimination_loss, (source, target))
    assert torch.autograd.gradcheck(domain_confusion_loss, (target,))


def test_does_not_change_its_inputs():
    source, target = tensor([1.0, -2.0]), tensor([0.5])
    domain_discrimination_loss(source, target), domain_confusion_loss(target)
    assert source.tolist() == [1.0, -2.0]
    assert target.tolist() == [0.5]
