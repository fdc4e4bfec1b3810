"""What is said where training diverges."""


class DivergenceError(ValueError):
    """A loss, a weight or an embedding is no longer finite."""


def divergence_error(when, finding, *, phase, lr):
    """Make the error, with what can be done about it.

    Parameters
    ----------
    when : str
        When it showed.
    finding : str
        What is not finite.
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
