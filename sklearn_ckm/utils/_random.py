"""Randomness: one seed per phase, and torch's global state left as it was."""

from contextlib import contextmanager
from zlib import crc32

import numpy as np
import torch
from sklearn.utils import check_random_state

from ._locks import ProcessLock

_CPU = torch.device("cpu")
_LOCK = ProcessLock()  # of torch's global state
_LARGEST_SEED = np.iinfo(np.int32).max


def check_seed(random_state):
    """Turn a scikit-learn `random_state` into one integer seed.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        None draws a fresh seed from the operating system, not from numpy's global state.

    Returns
    -------
    seed : int
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(_LARGEST_SEED))


def check_local_random_state(random_state):
    """As scikit-learn's ``check_random_state``, but None is a fresh generator, not numpy's own.

    Parameters
    ----------
    random_state : int, RandomState instance or None

    Returns
    -------
    random_state : RandomState
    """
    if random_state is None:
        random_state = check_seed(None)
    return check_random_state(random_state)


def phase_seed(seed, phase, repeat=0):
    """Seed of one phase, independent of whether other phases ran.

    Parameters
    ----------
    seed : int
        Seed of the fit.
    phase : str
        Name of the phase.
    repeat : int, default=0
        Number of the repetition.

    Returns
    -------
    seed : int
        In [0, 2**31).
    """
    sequence = np.random.SeedSequence([seed, crc32(phase.encode()), repeat])
    return int(sequence.generate_state(1)[0]) % _LARGEST_SEED


def fixed_sample(n_rows, most):
    """Draw at most so many of the rows, always the same ones: scores of one data set compare.

    Parameters
    ----------
    n_rows : int
        How many rows there are.
    most : int
        How many to draw.

    Returns
    -------
    rows : ndarray of int
        Indices, ascending; all of them where there are no more than `most`.
    """
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))


@contextmanager
def torch_seed(seed, device):
    """Seed torch's global generators inside the block and restore them after it.

    Layers are initialised, and dropout is drawn, from torch's global state; nothing else here is.
    Threads of one process take turns in such blocks.

    Parameters
    ----------
    seed : int
        Seed inside the block.
    device : torch.device
        The generator of this device is seeded and restored along with that of the CPU.
    """
    is_cuda = device.type == "cuda"
    devices = [device] if is_cuda else []
    with _LOCK.held(), torch.random.fork_rng(devices=devices):
        default_dtype = torch.get_default_dtype()
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        torch.set_default_dtype(torch.float32)  # other dtypes draw other numbers
        try:
            yield
        finally:
            torch.set_default_dtype(default_dtype)


@contextmanager
def layers_seed(seed):
    """Seed torch for making layers, which come to be on the CPU whatever its default device is.

    Parameters
    ----------
    seed : int
        Seed inside the block.
    """
    with torch_seed(seed, _CPU), _CPU:
        yield


def make_generator(seed, device):
    """Return a torch generator of its own on `device`."""
    return torch.Generator(device=device).manual_seed(seed)
