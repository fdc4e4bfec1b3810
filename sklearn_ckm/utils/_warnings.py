"""Warnings that point at the user's line."""

import sys
import warnings

_PASSED = {"contextlib", "joblib", "sklearn", "sklearn_ckm", "skorch", "torch"}


def warn_user(message, category=UserWarning):
    """Warn at the line that led here from outside this package and those it works within.

    Parameters
    ----------
    message : str
        What to say.
    category : type, default=UserWarning
        Class of the warning.
    """
    frame, stacklevel = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        frame, stacklevel = frame.f_back, stacklevel + 1
    warnings.warn(message, category, stacklevel=stacklevel)
