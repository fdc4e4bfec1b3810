import numpy as np
import pytest
import torch
from _oracles import loop_reconstruction_loss

from sklearn_ckm.losses import reconstruction_loss


def random_pair(shape, device="cpu"):
    rng = np.random.default_rng(0)
    return (torch.tensor(rng.normal(size=shape), device=device) for _ in range(2))


def test_is_zero_for_a_perfect_reconstruction(device):
    x, _ = random_pair((4, 2, 3, 3), device)
    assert reconstruction_loss(x, x.clone()).item() == 0


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3, 5), (1, 7)])
def test_equals_loop(device, shape):
    x, reconstruction = random_pair(shape, device)
    expected = loop_reconstruction_loss(x.cpu().numpy(), reconstruction.cpu().numpy())
    assert reconstruction_loss(x, reconstruction).item() == pytest.approx(expected, rel=1e-13)


def test_is_a_mean_over_samples_of_a_sum_over_features():
    x = torch.zeros(2, 3)
    assert reconstruction_loss(x, torch.ones(2, 3)).item() == 3
    assert reconstruction_loss(torch.cat([x, x]), torch.ones(4, 3)).item() == 3


def test_gradcheck():
    x, reconstruction = random_pair((3, 2, 2, 2))
    assert torch.autograd.gradcheck(
        reconstruction_loss, (x.requires_grad_(), reconstruction.requires_grad_())
    )
