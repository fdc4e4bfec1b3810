"""From the parameter ``optimizer`` to a torch optimiser class."""

from functools import partial

import torch

_FUSED = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_HAS_FUSED = ("cpu", "cuda")


def resolve_optimizer(optimizer, device):
    """Return a callable that makes an optimiser from parameters and ``lr``.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"} or callable
        A name, an optimiser class, or a ``functools.partial`` of one.
    device : torch.device
        Named optimisers update all parameters in one fused kernel where the device has it.

    Returns
    -------
    optimizer : callable

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if callable(optimizer):
        return optimizer
    if optimizer not in _FUSED:
        raise ValueError(
            f"Expected 'optimizer' among {sorted(_FUSED)} or an optimiser class of torch.optim, "
            f"got {optimizer!r}."
        )
    return partial(_FUSED[optimizer], fused=device.type in _HAS_FUSED)
