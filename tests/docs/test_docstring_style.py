"""Docstrings of the public face are numpydoc."""

import importlib
import inspect
import pkgutil
import sys
import types

import pytest
from numpydoc.validate import validate

import sklearn_ckm

# What the house style leaves open: no extended summary, example or further reading for each method;
# the return value has a name; a description may start with a name in lower case; a noun phrase says
# what a function that only returns something returns.
LEFT_OPEN = {"ES01", "EX01", "SA01", "RT02", "PR08", "RT04", "SA03", "SS05"}


def public_names():
    """Full names of the public objects, and of the methods that the package itself gives them."""
    modules = ["sklearn_ckm"] + [
        info.name for info in pkgutil.walk_packages(sklearn_ckm.__path__, "sklearn_ckm.")
    ]
    objects = {}
    for module in modules:
        if "._" in module:
            continue
        for name in getattr(importlib.import_module(module), "__all__", ()):
            member = getattr(importlib.import_module(module), name)
            if inspect.isclass(member) or inspect.isfunction(member):
                objects.setdefault(member, f"{module}.{name}")
    names = list(objects.values())
    for cls, full_name in objects.items():
        names += [f"{full_name}.{name}" for name in own_members(cls)]
    return sorted(names)


def own_members(cls):
    """Names of the public methods and properties that are written in this package."""
    if not inspect.isclass(cls):
        return []
    names = []
    for name, member in inspect.getmembers(cls):
        function = inspect.unwrap(getattr(member, "fget", None) or member)
        module = getattr(function, "__module__", None) or ""
        if not name.startswith("_") and module.startswith("sklearn_ckm"):
            names.append(name)
    return names


def find_faults(name):
    """Codes and messages of numpydoc's validation that the house style does not leave open."""
    report = validate(name)
    left_open = set(LEFT_OPEN)
    if "BaseClusteringObjective" in report["docstring"].splitlines()[0]:
        left_open |= {"PR01", "RT01"}  # "; see ...": the base describes the parameters
    if name.endswith(".ClusteringStep"):
        left_open.add("PR01")  # the fields of a named tuple are its attributes
    return [f"{code} {message}" for code, message in report["errors"] if code not in left_open]


def test_the_public_face_is_found():
    names = public_names()
    assert "sklearn_ckm.CKMDomainAdapter.fit" in names
    assert "sklearn_ckm.metrics.clustering_accuracy" in names
    assert not any("set_params" in name or "set_fit_request" in name for name in names)


@pytest.mark.parametrize("name", public_names())
def test_docstring_is_numpydoc(name):
    assert find_faults(name) == []


@pytest.fixture
def module_with_faults(monkeypatch):
    """A module to import whose docstring lacks its sections."""

    def double(x):
        """Double it.


        Really.
        """
        return 2 * x

    module = types.ModuleType("tests_docstring_without_sections")
    double.__module__, double.__qualname__ = module.__name__, "double"
    module.double = double
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_faults_are_found(module_with_faults):
    assert find_faults("tests_docstring_without_sections.double") == [
        "GL03 Double line break found; please use only one blank line to separate sections or "
        "paragraphs, and do not leave blank lines at the end of docstrings",
        "PR01 Parameters {'x'} not documented",
        "RT01 No Returns section found",
    ]
