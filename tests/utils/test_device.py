import pytest
import torch

from sklearn_ckm.utils._device import resolve_device, resolve_kept_device


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


def test_device_without_float64_raises(monkeypatch):
    def empty(*args, **kwargs):
        raise TypeError("Cannot convert a tensor to float64")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(ValueError, match="got 'cpu', where torch cannot keep a float64 tensor"):
        resolve_device("cpu")


def test_device_of_a_fit_that_is_gone_is_replaced_with_a_warning(monkeypatch):
    assert resolve_kept_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.warns(UserWarning, match="fitted on cuda:1, .* answers on cuda:0") as caught:
        assert resolve_kept_device("cuda:1") == torch.device("cuda", 0)
    assert caught[0].filename == __file__
