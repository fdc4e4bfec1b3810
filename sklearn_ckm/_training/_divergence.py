"""Whether training diverges, and what is said then."""

from math import isfinite

import torch

_EXPLODED = 1e6  # times the loss before: still finite, and past help


class DivergenceError(ValueError):
    """A loss, a weight or an embedding is no longer finite, or a loss has exploded."""


def find_divergence(means, tensors, least=0.0, before=0.0):
    """Say what shows that an epoch diverged.

    Parameters
    ----------
    means : dict of str to float
        What the epoch recorded.
    tensors : dict of str to Tensor
        Parameters and buffers of the network, which shall be finite.
    least : float, default=0.0
        Least loss of the batches. Few rows far from all others raise the loss of some batches, a
        divergence that of all.
    before : float, default=0.0
        Loss before, of an epoch or a batch.

    Returns
    -------
    finding : str or None
        None where nothing does.
    """
    if not all(map(isfinite, means.values())):
        return f"the means of the epoch are {means}"
    is_finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()])
    if not is_finite.all().item():
        wrong = [n for n, is_right in zip(tensors, is_finite, strict=True) if not is_right]
        return f"{wrong[0]!r} of the network has values that are not finite"
    if least > _EXPLODED * max(before, 1.0):
        return f"the loss rose from {before:.3g} to {least:.3g} or more"
    return None


def divergence_error(when, finding, *, phase, lr):
    """Make the error, with what can be done about it.

    Parameters
    ----------
    when : str
        When it showed.
    finding : str
        What shows it.
    phase : str
        Name of the phase in the history.
    lr : float
        Its learning rate.

    Returns
    -------
    error : DivergenceError
    """
    remedies = f"'lr' (now {lr:g})" + (" or the lambdas" if phase != "pretrain" else "")
    return DivergenceError(
        f"Training diverged {when} the phase {phase!r}: {finding}. Lower {remedies}."
    )
