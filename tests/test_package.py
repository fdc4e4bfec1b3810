"""The public face of the package: its names, their docstrings, and what an import may not do."""

import importlib
import pkgutil
import re
import subprocess
import sys
from importlib import metadata

import pytest

import sklearn_ckm


def public_modules(module):
    """Yield `module` and, depth first, every module below it whose name has no underscore."""
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if not info.name.startswith("_"):
            yield from public_modules(importlib.import_module(f"{module.__name__}.{info.name}"))


MODULES = list(public_modules(sklearn_ckm))
NAMES = [(module.__name__, name) for module in MODULES for name in getattr(module, "__all__", ())]

# The dependencies come first: what they do when imported is theirs, the rest is the package's.
IMPORT_AND_REPORT = """
import os, pickle, random, sys, warnings
import numpy, scipy, sklearn, skorch, torch

def state():
    return {
        "python random state": random.getstate(),
        "numpy random state": pickle.dumps(numpy.random.get_state()),
        "torch random state": torch.get_rng_state().tolist(),
        "torch default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "torch gradients": torch.is_grad_enabled(),
        "torch determinism": torch.are_deterministic_algorithms_enabled(),
        "scikit-learn configuration": sklearn.get_config(),
        "numpy error handling": numpy.geterr(),
        "environment": dict(os.environ),
        "warning filters": list(warnings.filters),
    }

LATE = ("matplotlib", "tqdm.auto")  # the latter warns in notebooks without ipywidgets
for name in LATE:
    assert name not in sys.modules, f"a dependency imports {name}"
warnings.simplefilter("error")
before = state()
for name in sys.argv[1:]:
    __import__(name)
after = state()
for key in before:
    if before[key] != after[key]:
        print("changed:", key)
for name in LATE:
    if name in sys.modules:
        print("imported:", name)
if torch.cuda.is_initialized():
    print("initialised: CUDA")
"""


def import_in_fresh_process(*names, folder="."):
    return subprocess.run(
        [sys.executable, "-c", IMPORT_AND_REPORT, *names],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_module_lists_its_names_once_and_has_a_docstring(module):
    assert module.__doc__ and module.__doc__.strip()
    assert isinstance(module.__all__, list)  # empty where all is private
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize(("module_name", "name"), NAMES)
def test_public_name_is_importable_and_has_its_own_docstring(module_name, name):
    public = getattr(importlib.import_module(module_name), name)
    # __doc__, not inspect.getdoc, which would take the docstring of a base class.
    docstring = (public.__doc__ or "").strip()
    assert docstring, f"{module_name}.{name} has no docstring"
    # A dataclass without a docstring is given its signature as one.
    assert not docstring.startswith(f"{name}("), f"{module_name}.{name} has no docstring"


def test_version_is_that_of_the_installed_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?(\.dev\d+)?", sklearn_ckm.__version__)
    assert metadata.version("sklearn-ckm") == sklearn_ckm.__version__


@pytest.mark.parametrize(
    "names", [["sklearn_ckm"], [module.__name__ for module in MODULES]], ids=["top", "all"]
)
def test_import_has_no_side_effects_and_no_warnings(names):
    result = import_in_fresh_process(*names)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


CARELESS_MODULE = """
import random, warnings
import matplotlib, numpy, sklearn, torch, tqdm.auto
random.seed(0)
numpy.random.seed(0)
torch.manual_seed(0)
sklearn.set_config(display="text")
warnings.simplefilter("ignore")
"""


def test_side_effect_check_reports_a_careless_module(tmp_path):
    (tmp_path / "careless.py").write_text(CARELESS_MODULE)
    result = import_in_fresh_process("careless", folder=tmp_path)
    assert result.stdout.splitlines() == [
        "changed: python random state",
        "changed: numpy random state",
        "changed: torch random state",
        "changed: scikit-learn configuration",
        "changed: warning filters",
        "imported: matplotlib",
        "imported: tqdm.auto",
    ]


def test_side_effect_check_fails_on_a_warning(tmp_path):
    (tmp_path / "careless.py").write_text("import warnings; warnings.warn('careless')")
    result = import_in_fresh_process("careless", folder=tmp_path)
    assert result.returncode != 0
    assert "UserWarning: careless" in result.stderr
