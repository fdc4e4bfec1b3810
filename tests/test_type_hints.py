"""The public face has type hints, and they can be resolved."""

import importlib
import inspect
import pkgutil
import typing
from importlib.resources import files

import pytest

import sklearn_ckm
from sklearn_ckm._base import BaseDeepEstimator

MODULES = [
    importlib.import_module(f"sklearn_ckm.{info.name}")
    for info in pkgutil.iter_modules(sklearn_ckm.__path__)
    if not info.name.startswith("_")
]
PUBLIC = {
    getattr(module, name): f"{module.__name__}.{name}"
    for module in (*MODULES, sklearn_ckm)
    for name in module.__all__
    if callable(getattr(module, name))
}
CLASSES = [public for public in PUBLIC if inspect.isclass(public)]
FUNCTIONS = [public for public in PUBLIC if not inspect.isclass(public)]


def own_methods(cls):
    """Public methods, and the constructor, that this package wrote."""
    for name, method in inspect.getmembers(cls, inspect.isroutine):
        is_public = name in ("__init__", "__call__") or not name.startswith("_")
        is_ours = (getattr(method, "__module__", None) or "").startswith("sklearn_ckm")
        if is_public and is_ours:
            yield inspect.unwrap(getattr(method, "__func__", method))


def assert_all_hinted(function):
    hints = typing.get_type_hints(function)
    names = {*inspect.signature(function).parameters, "return"} - {"self", "cls"}
    assert set(hints) == names, function.__qualname__


@pytest.mark.parametrize("cls", CLASSES, ids=PUBLIC.get)
def test_every_parameter_and_answer_of_a_method_has_a_hint(cls):
    methods = list(own_methods(cls))
    if issubclass(cls, BaseDeepEstimator):
        assert {"__init__", "fit", "predict"} <= {method.__name__ for method in methods}
    for method in methods:
        assert_all_hinted(method)


@pytest.mark.parametrize("function", FUNCTIONS, ids=PUBLIC.get)
def test_every_parameter_and_answer_of_a_function_has_a_hint(function):
    assert_all_hinted(inspect.unwrap(function))


def test_all_rooms_are_looked_at():
    assert {"losses", "metrics", "inspection", "pipeline"} <= {
        module.__name__.split(".")[1] for module in MODULES
    }
    assert len(CLASSES) > 30
    assert len(FUNCTIONS) > 30


def test_package_says_that_it_is_typed():
    assert (files("sklearn_ckm") / "py.typed").is_file()
