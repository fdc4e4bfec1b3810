"""The examples of the gallery have a heading, and run without a warning."""

import ast
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
LONGEST = 300  # seconds, on a machine that may be busy; alone, each takes less than a minute


def test_scripts_are_found():
    assert len([script for script in SCRIPTS if script.name.startswith("plot_")]) >= 7


def test_gallery_has_an_order():
    order = runpy.run_path(str(EXAMPLES.parent / "gallery_order.py"))
    assert sorted(order["ORDER"]) == [script.name for script in SCRIPTS]
    assert sorted(["demo_digits.py", "plot_first_steps.py"], key=order["position"])[0][:4] == "plot"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_starts_with_a_heading(script):
    docstring = ast.get_docstring(ast.parse(script.read_text("utf-8")))
    title, underline, empty, *text = docstring.splitlines()
    assert re.fullmatch("=+", underline)
    assert len(underline) == len(title)
    assert empty == ""
    assert " ".join(text).strip().endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [script for script in SCRIPTS if script.name.startswith("plot_")],
    ids=lambda script: script.stem,
)
def test_script_runs(script, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    # short trainings may end with a centre that cannot be trusted; nothing else may be warned of
    flags = ["-W", "error", "-W", "default::UserWarning:__main__", "-W", "ignore:.*non-interactive"]
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, *flags, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"\w*Warning", done.stderr)) <= {"ConvergenceWarning"}
    assert done.stdout
    print(f"{script.stem}: {time.monotonic() - start:.0f} seconds")
