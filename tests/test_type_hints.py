"""The estimators' public face has type hints, and they can be resolved."""

import inspect
import typing
from importlib.resources import files

import pytest

import sklearn_ckm
from sklearn_ckm import domain_adaptation

ESTIMATORS = [
    sklearn_ckm.ConcreteKMeans,
    *(getattr(domain_adaptation, name) for name in domain_adaptation.__all__),
]


def own_methods(cls):
    """Public methods, and the constructor, that this package wrote."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        is_ours = method.__module__.startswith("sklearn_ckm")
        if is_ours and (name == "__init__" or not name.startswith("_")):
            yield method


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_every_parameter_and_answer_has_a_hint(cls):
    methods = list(own_methods(cls))
    assert {"__init__", "fit", "predict"} <= {method.__name__ for method in methods}
    for method in methods:
        hints = typing.get_type_hints(inspect.unwrap(method))
        names = {*inspect.signature(method).parameters, "return"} - {"self"}
        assert set(hints) == names, method.__qualname__


def test_load_has_hints():
    hints = typing.get_type_hints(sklearn_ckm.load)
    assert set(hints) == {*inspect.signature(sklearn_ckm.load).parameters, "return"}


def test_package_says_that_it_is_typed():
    assert (files("sklearn_ckm") / "py.typed").is_file()
