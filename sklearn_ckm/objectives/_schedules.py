"""Settings that change over the epochs: a constant, a (start, end) pair or a callable."""

from collections.abc import Callable

Schedule = float | tuple[float, float] | Callable[[float], float]


def check_schedule(value, name, *, is_valid, wanted):
    """Raise ``ValueError`` unless `value` is a valid constant, a pair of them or a callable."""
    if callable(value):
        return
    is_pair = isinstance(value, (tuple, list))
    ends = tuple(value) if is_pair else (value,)
    if (is_pair and len(ends) != 2) or not all(is_valid(end) for end in ends):
        raise ValueError(
            f"Expected {name!r} to be a finite number ({wanted}), a (start, end) pair of such "
            f"numbers, or a callable of the progress in [0, 1); got {value!r}."
        )


def is_schedule(value):
    """Whether a setting changes over the epochs."""
    return callable(value) or isinstance(value, (tuple, list))


def scheduled(value, progress, *, geometric=False):
    """Value of a setting when the share `progress` of the epochs is done.

    Parameters
    ----------
    value : float, pair of floats or callable
        The setting.
    progress : float
        In [0, 1].
    geometric : bool, default=False
        Interpolate a pair geometrically rather than linearly.

    Returns
    -------
    value : float
    """
    if callable(value):
        return float(value(progress))
    if not is_schedule(value):
        return float(value)
    start, end = value
    if geometric:
        return float(start * (end / start) ** progress)
    return float(start + (end - start) * progress)
