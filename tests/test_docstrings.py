"""Docstrings tell the truth: their examples run and their lists of names are complete."""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import make_blobs

import sklearn_ckm
from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans

MODULES = sorted(
    [
        "sklearn_ckm",
        *(info.name for info in pkgutil.walk_packages(sklearn_ckm.__path__, "sklearn_ckm.")),
    ]
)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def public_estimators():
    """Every class with parameters that a public module names in its ``__all__``."""
    found = {}
    for name in MODULES:
        if "._" in name:
            continue
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            cls = getattr(module, public)
            if inspect.isclass(cls) and issubclass(cls, BaseEstimator):
                found[cls.__name__] = cls
    return sorted(found.values(), key=lambda cls: cls.__name__)


def documented_names(docstring, section):
    """Names of a numpydoc section, in order."""
    lines = inspect.cleandoc(docstring).splitlines()
    starts = [i for i, line in enumerate(lines[:-1]) if line == section]
    if not starts or not set(lines[starts[0] + 1]) <= {"-"}:
        return []
    names = []
    body = lines[starts[0] + 2 :]
    for line, following in zip(body, [*body[1:], ""], strict=True):
        if following and set(following) == {"-"}:
            break  # the next section
        if match := re.match(r"(\*{0,2}\w[\w, *]*?)(?: : |$)", line):
            names += [name.strip(" *") for name in match.group(1).split(",")]
    return names


def doctests(name):
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


WITH_EXAMPLES = [name for name in MODULES if doctests(name)]


def test_estimators_and_metrics_have_examples():
    examples = {test.name for name in WITH_EXAMPLES for test in doctests(name)}
    assert any(name.endswith(".ConcreteKMeans") for name in examples)
    assert any(name.endswith(".CKMDomainAdapter") for name in examples)
    assert any(name.endswith(".CKMSemiSupervisedAdapter") for name in examples)
    assert any(name.endswith(".clustering_accuracy") for name in examples)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, capsys):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=OPTIONS)
    assert result.attempted > 0
    assert result.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("cls", public_estimators(), ids=lambda cls: cls.__name__)
def test_docstring_lists_the_parameters_of_the_signature_in_its_order(cls):
    signature = list(inspect.signature(cls).parameters)
    assert documented_names(cls.__doc__, "Parameters") == signature


@pytest.mark.parametrize("cls", public_estimators(), ids=lambda cls: cls.__name__)
def test_docstring_tells_the_defaults_of_the_signature(cls):
    docstring = inspect.cleandoc(cls.__doc__)
    for name, parameter in inspect.signature(cls).parameters.items():
        line = re.search(rf"^{name} : (.*(?:\n    .*)?)", docstring, re.MULTILINE).group(1)
        told = re.search(r"default=(\"[^\"]*\"|\([^)]*\)|[^,\s]+)", line)
        if parameter.default is inspect.Parameter.empty:
            assert told is None, name
        else:
            expected = eval(told.group(1))
            np.testing.assert_equal(parameter.default, expected, name)  # NaN equals itself
            assert type(expected) is type(parameter.default), name


@pytest.mark.parametrize("cls", public_estimators(), ids=lambda cls: cls.__name__)
def test_docstrings_of_methods_list_their_parameters(cls):
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if name.startswith("_") or not method.__module__.startswith("sklearn_ckm"):
            continue
        signature = [p for p in inspect.signature(method).parameters if p != "self"]
        assert method.__doc__, f"{cls.__name__}.{name}"
        if signature and documented_names(method.__doc__, "Parameters"):
            documented = documented_names(method.__doc__, "Parameters")
            assert documented == signature, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("cls", [ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter])
def test_docstring_lists_what_a_fit_learns(cls):
    X, y = make_blobs(n_samples=30, centers=8 * np.eye(3)[:2], random_state=0)
    pandas = pytest.importorskip("pandas")
    settings = {"n_components": 2, "n_init": 2, "pretrain_epochs": 2, "max_epochs": 1}
    model = cls("auto", **settings, random_state=0)
    model.fit(pandas.DataFrame(X, columns=list("abc")), y)
    learned = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert set(documented_names(cls.__doc__, "Attributes")) == learned


def test_estimators_and_objectives_of_every_public_module_are_looked_at():
    names = {cls.__name__ for cls in public_estimators()}
    assert names >= {"ConcreteKMeans", *sklearn_ckm.domain_adaptation.__all__}
    assert names >= set(sklearn_ckm.objectives.__all__) - {"ClusteringStep"}


def test_parser_of_docstrings_by_hand():
    docstring = """Do it.

    Parameters
    ----------
    first : int, default=1
        About : this.
    second, third : float
        Both.
    **others : dict

    Returns
    -------
    answer : float
    """
    assert documented_names(docstring, "Parameters") == ["first", "second", "third", "others"]
    assert documented_names(docstring, "Returns") == ["answer"]
    assert documented_names(docstring, "Raises") == []
