import signal

import pytest
import torch
from _emulated_device import emulated_device, register

register()


@pytest.fixture(scope="session", autouse=True)
def single_thread():
    """The tensors here are small: threads only wait for each other, long on a busy machine."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def emulated():
    """A device that is not the CPU, on any machine."""
    with emulated_device() as device:
        yield device


@pytest.fixture(params=["cpu", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


@pytest.fixture
def ctrl_c():
    """Interrupts are raised, also in a process that was started with them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
