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
        If the name is unknown, or the optimiser wants to compute the loss anew in a step.
    """
    if getattr(optimizer, "func", optimizer) is torch.optim.LBFGS:
        raise ValueError(
            "Expected 'optimizer' to step by the gradient of a batch, got LBFGS, which computes "
            f"the loss several times a step. Take one of {sorted(_FUSED)}."
        )
    if callable(optimizer):
        return optimizer
    if optimizer not in _FUSED:
        raise ValueError(
            f"Expected 'optimizer' among {sorted(_FUSED)} or an optimiser class of torch.optim, "
            f"got {optimizer!r}."
        )
    return partial(_FUSED[optimizer], fused=device.type in _HAS_FUSED)


def named_state(optimizer, module):
    """State of an optimiser by the name of the parameter it belongs to.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trained on parameters of `module`.
    module : nn.Module
        Gives the names.

    Returns
    -------
    state : dict of str to dict
        Copies, on the CPU: moments and step counts.
    """
    return {
        name: {
            key: value.detach().cpu().clone() if torch.is_tensor(value) else value
            for key, value in optimizer.state[parameter].items()
        }
        for name, parameter in module.named_parameters()
        if parameter in optimizer.state
    }


def load_named_state(optimizer, module, state):
    """Give an optimiser the state of another, for the parameters that both train.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the same class; trains parameters of `module`.
    module : nn.Module
        Gives the names.
    state : dict of str to dict
        From :func:`named_state`.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = {
        i: {key: _as_laid_out(value, p) for key, value in state[names[id(p)]].items()}
        for i, p in enumerate(parameters)
        if names[id(p)] in state
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": known})


def _as_laid_out(value, parameter):
    """Moments in the memory layout of their parameter: fused updates pair the two by address."""
    if not torch.is_tensor(value) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
