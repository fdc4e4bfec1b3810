"""The pages tell the truth: their code runs, and the reference lists every public name."""

import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

import sklearn_ckm
from sklearn_ckm.metrics import clustering_accuracy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SLOW = {"choosing_settings.rst"}  # a whole search with the default epochs


def python_blocks(path):
    """Return the Python code blocks of a page, in order."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", path.read_text("utf-8"))
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


WITH_CODE = [path.name for path in sorted(DOCS.glob("*.rst")) if python_blocks(path)]


def run_page(name):
    """Run the code of a page; two domains are at hand, as some pages suppose."""
    X, y = make_blobs(80, centers=4, n_features=4, cluster_std=0.5, random_state=0)
    namespace = {"__name__": "page", "X_src": X[y < 2], "y_src": y[y < 2], "X_tgt": X[y >= 2]}
    for block in python_blocks(DOCS / name):
        exec(compile(block, name, "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in WITH_CODE],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs
def test_code_of_the_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a cache is written where one is asked for
    run_page(name)


def test_pages_with_code_are_found():
    guides = {"quick_start", "concrete_kmeans", "ckm_domain_adapter", "images", "encoders"}
    guides |= {"ckm_semi_supervised_adapter", "contributing", "views", "scikit_learn", "devices"}
    assert {f"{name}.rst" for name in guides} <= set(WITH_CODE)


@pytest.fixture(scope="module")
def contributing():
    return run_page("contributing.rst")


def test_objective_of_the_contributing_guide_finds_the_clusters(contributing):
    assert clustering_accuracy(contributing["y"], contributing["model"].labels_) == 1.0
    assert contributing["model"].objective.bound == 1.0


def test_objective_of_the_contributing_guide_is_hubers(contributing):
    z = torch.tensor([[0.0], [0.5], [3.0]], requires_grad=True)
    centers = torch.zeros(1, 1)
    step = contributing["HuberKMeansObjective"](bound=1.0).step(z, centers, torch.tensor(1.0))
    assert step.loss.item() == pytest.approx((0 + 0.25 + (2 * 3 - 1)) / 3)
    step.loss.backward()
    np.testing.assert_allclose(z.grad.ravel(), [0, 1 / 3, 2 / 3], atol=1e-6)  # the pull is bounded


def test_objective_of_the_contributing_guide_refuses_a_bound(contributing):
    with pytest.raises(ValueError, match="Expected 'bound' to be a positive number, got -1"):
        contributing["HuberKMeansObjective"](bound=-1).check_settings()


def public_names():
    """Full names of everything in the ``__all__`` of a public module, with the objects."""
    modules = [sklearn_ckm] + [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(sklearn_ckm.__path__, "sklearn_ckm.")
        if "._" not in info.name
    ]
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in getattr(module, "__all__", ())
    }


def reference_entries():
    """Full names in the tables of the reference, in order."""
    entries, module, in_table = [], None, False
    for line in (DOCS / "api.rst").read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match.group(1)
        elif line == ".. autosummary::":
            in_table = True
        elif line and not line.startswith(" "):
            in_table = False
        elif in_table and (match := re.fullmatch(r"   (\w+)", line)):
            entries.append(f"{module}.{match.group(1)}")
    return entries


def test_reference_lists_public_names_only_and_once():
    entries = reference_entries()
    assert len(entries) == len(set(entries))
    assert set(entries) <= set(public_names())


def test_reference_lists_every_public_name():
    public = public_names()
    described = {id(public[name]) for name in reference_entries()}
    text = (DOCS / "api.rst").read_text("utf-8")
    missing = [
        name
        for name, member in public.items()
        if id(member) not in described and f"``{name}``" not in text
    ]
    assert missing == []


def test_reference_names_every_public_module():
    text = (DOCS / "api.rst").read_text("utf-8")
    modules = {name.rpartition(".")[0] for name in public_names()}
    assert [name for name in sorted(modules) if f".. currentmodule:: {name}\n" not in text] == []


def test_pages_that_the_readme_links_to_exist():
    readme = (ROOT / "README.rst").read_text("utf-8")
    paths = re.findall(r"<(docs/[^>]+)>`_|\.\. figure:: (\S+)", readme)
    found = {path or figure for path, figure in paths}
    assert len(found) >= 4
    assert [path for path in sorted(found) if not (ROOT / path).exists()] == []
