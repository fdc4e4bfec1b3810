"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.rst"


def python_snippets():
    """Return the Python code blocks of the README, in order."""
    blocks = re.findall(
        r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README.read_text("utf-8")
    )
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def test_readme_has_snippets():
    assert len(python_snippets()) == 5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs
@pytest.mark.parametrize(
    "epochs", [2, pytest.param(None, marks=pytest.mark.slow)], ids=["short", "as they stand"]
)
def test_snippets_run_in_order(tmp_path, monkeypatch, epochs):
    monkeypatch.chdir(tmp_path)  # a model is saved
    namespace = {}
    for snippet in python_snippets():
        if epochs:
            snippet = re.sub(r"epochs=\d+", f"epochs={epochs}", snippet)
        exec(compile(snippet, str(README), "exec"), namespace)
    assert namespace["model"].n_clusters == 5
    assert set(namespace["search"].best_params_) == {"lambda_clustering"}
    assert set(namespace["grid"].best_params_) == {"ckmdomainadapter__lambda_clustering"}


def test_first_example_is_short():
    lines = [line for line in python_snippets()[0].splitlines() if line.strip()]
    assert len(lines) <= 12
