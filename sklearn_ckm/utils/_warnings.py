"""Warnings: ours point at the user's line, and some of others are of no use to them."""

import sys
import warnings
from contextlib import contextmanager

from ._locks import ProcessLock

_FILTERS = ProcessLock()  # of Python's list of filters
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


@contextmanager
def ignored_warnings(category, message=""):
    """Ignore warnings of others within a ``with`` block.

    Threads take turns in such blocks: of two that overlap, the one that ends last would leave the
    filter of the other behind.

    Parameters
    ----------
    category : type
        Class of the warnings.
    message : str, default=""
        Regular expression that their messages begin with.
    """
    with _FILTERS.held(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message, category=category)
        yield
