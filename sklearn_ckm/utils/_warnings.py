"""Warnings: ours point at the user's line, and some of others are of no use to them."""

import sys
import warnings
from contextlib import contextmanager

from ._locks import ProcessLock

_FILTERS = ProcessLock()  # of Python's list of filters
_OURS = "sklearn_ckm"
_PASSED = {_OURS, "contextlib", "joblib", "sklearn", "skorch", "torch"}
_WORKERS = {"concurrent", "multiprocessing", "threading"}  # below these nobody called


def warn_user(message, category=UserWarning):
    """Warn at the line that led here from outside this package and those it works within.

    In a thread or process of joblib's there is none: there it is this package's outermost line.

    Parameters
    ----------
    message : str
        What to say.
    category : type, default=UserWarning
        Class of the warning.
    """
    frame, stacklevel, of_ours = sys._getframe(1), 2, 2
    while frame.f_back and (package := _package_of(frame)) in _PASSED:
        if package == _OURS:
            of_ours = stacklevel
        frame, stacklevel = frame.f_back, stacklevel + 1
    if _package_of(frame) in _WORKERS:
        stacklevel = of_ours
    warnings.warn(message, category, stacklevel=stacklevel)


def _package_of(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]


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
