"""Validation of parameters around a fit."""

from collections.abc import Callable
from typing import TypeVar

from sklearn.base import _fit_context

_Method = TypeVar("_Method", bound=Callable)


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Return scikit-learn's ``_fit_context``, with which type checkers still see the method.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether estimators that the method fits leave their parameters unchecked.

    Returns
    -------
    decorator : callable
        Checks the parameters before the method is called.
    """
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
