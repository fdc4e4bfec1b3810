"""Settings of Sphinx. The build needs no network; see ``make docs`` and ``make docs-quick``."""

import inspect
import os
import sys
from pathlib import Path

# Before torch is imported: its threads wait for each other where other work runs too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sklearn_ckm

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_order

project = "sklearn-ckm"
author = "the sklearn-ckm developers"
copyright = f"{author}, BSD-3-Clause"
version = release = sklearn_ckm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
default_role = "literal"
nitpicky = True  # a reference that leads nowhere is a warning
nitpick_ignore_regex = [("py:.*", "(functools|numpy|sklearn|skorch|torch)\\..*")]  # of others

autosummary_generate = True
autodoc_typehints = "none"  # types stand in the docstrings, with their shapes
numpydoc_show_class_members = False  # the template of a class lists its methods

# Links to the pages of other packages take the network, so they are made on request only.
intersphinx_mapping = {}
if os.environ.get("SKLEARN_CKM_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",  # demo_digits.py is a command: shown, not run
    "doc_module": ("sklearn_ckm",),
    "backreferences_dir": "generated/backreferences",
    "reference_url": {"sklearn_ckm": None},
    "within_subsection_order": "gallery_order.position",
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "abort_on_example_error": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-ckm"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}


def skip_members_of_others(app, kind, name, member, skip, options):
    """Leave out what a class inherits from scikit-learn, torch or Python."""
    if kind != "class" or skip:
        return skip
    function = inspect.unwrap(getattr(member, "fget", None) or member)
    module = getattr(function, "__module__", None) or ""
    return None if module.startswith("sklearn_ckm") else True


def setup(app):
    """Connect the function above."""
    app.connect("autodoc-skip-member", skip_members_of_others)
