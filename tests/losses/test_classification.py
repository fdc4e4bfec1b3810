import math

import numpy as np
import pytest
import torch
from _oracles import loop_cross_entropy

from sklearn_ckm.losses import classification_loss


def random_logits(n_samples, n_classes, device="cpu"):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(scale=3, size=(n_samples, n_classes)), device=device)


@pytest.mark.parametrize("n_classes", [2, 5, 100])
def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes(device, n_classes):
    logits = torch.full((6, n_classes), 3.7, dtype=torch.float64, device=device)
    y = torch.arange(6, device=device) % n_classes
    assert classification_loss(logits, y).item() == pytest.approx(math.log(n_classes), rel=1e-14)


@pytest.mark.parametrize("y", [[0, 1, 2, 0, 1], [0, -1, 2, -1, 1], [-1, -1, 2, -1, -1]])
def test_equals_loop(device, y):
    logits = random_logits(5, 3, device)
    loss = classification_loss(logits, torch.tensor(y, device=device))
    assert loss.item() == pytest.approx(loop_cross_entropy(logits.tolist(), y), rel=1e-13)


def test_unlabelled_rows_do_not_count():
    logits = random_logits(4, 3).requires_grad_()
    y = torch.tensor([2, -1, 0, -1])
    loss = classification_loss(logits, y)
    assert loss.item() == pytest.approx(classification_loss(logits[[0, 2]], y[[0, 2]]).item())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[[1, 3]] == 0).all()
    assert (gradient[[0, 2]] != 0).all()


def test_is_zero_with_zero_gradient_where_nothing_is_labelled(device):
    logits = random_logits(4, 3, device).requires_grad_()
    loss = classification_loss(logits, torch.full((4,), -1, device=device))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_does_not_change_the_labels():
    y = torch.tensor([0, -1, 1])
    classification_loss(random_logits(3, 2), y)
    assert y.tolist() == [0, -1, 1]


def test_gradcheck():
    y = torch.tensor([0, -1, 2, 1])
    logits = random_logits(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: classification_loss(logits, y), (logits,))
