"""The documentation builds without a warning and without the network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = shutil.ignore_patterns("_build", "auto_examples", "generated", "__pycache__")


@pytest.mark.slow
def test_documentation_builds_without_its_examples(tmp_path):
    for module in ("sphinx", "sphinx_gallery", "pydata_sphinx_theme"):
        pytest.importorskip(module)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=BUILT)
    shutil.copy(ROOT / "CHANGES.rst", tmp_path)
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    command = [sys.executable, "-m", "sphinx", *options, "docs", "html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "html" / "generated" / "sklearn_ckm.CKMDomainAdapter.html").read_text()
    assert "sklearn_ckm.CKMDomainAdapter.predict_source" in reference  # methods of the package
    assert "sklearn_ckm.CKMDomainAdapter.set_params" not in reference  # not scikit-learn's
    for page in ("views", "choosing_settings", "scikit_learn", "benchmarks", "changes"):
        assert (tmp_path / "html" / f"{page}.html").exists()
