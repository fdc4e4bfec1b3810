import pytest
import torch

from sklearn_ckm.utils._device import resolve_device


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_cpu(device):
    assert resolve_device(device) == torch.device("cpu")


def test_auto_takes_what_there_is():
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == wanted


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gets_its_index():
    assert resolve_device("cuda") == torch.device("cuda", torch.cuda.current_device())


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", None, 1.5])
def test_unknown_device_raises(device):
    with pytest.raises(ValueError, match=r"Expected 'device' to be 'auto', 'cpu', 'cuda'.*got"):
        resolve_device(device)


def test_cuda_index_that_does_not_exist_raises():
    with pytest.raises(ValueError, match=r"got 'cuda:99', but torch sees \d+ CUDA.*device='auto'"):
        resolve_device("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_card_raises():
    with pytest.raises(ValueError, match="Expected an available device, got 'cuda'"):
        resolve_device("cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine without MPS")
def test_other_accelerator_that_is_not_there_raises():
    with pytest.raises(ValueError, match="Expected an available device, got 'mps'"):
        resolve_device("mps")
