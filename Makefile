# Every target works from a bare checkout: the environment is made on first use.
#   PYTHON  the interpreter that makes the environment (3.11 or newer)
#   VENV    where the environment lives; delete the folder to start afresh
PYTHON ?= python3
VENV ?= .venv
DATA ?=
OUT ?=
ARGS ?=
SCALE ?= reduced

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# Fails, saying why, on an interpreter that is too old.
CHECK_VERSION := import sys; sys.version_info >= (3, 11) or sys.exit( \
	"sklearn-ckm needs Python 3.11 or newer, but " + sys.executable + " is " \
	+ sys.version.split()[0] + ": pass PYTHON=/path/to/python3.11 or newer")

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow table1 table2 docs docs-quick lint dist clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV); demo also takes DATA=folder and OUT=folder,"
	@echo "the tables DATA=folder, SCALE=quick, reduced or full, and ARGS for their scripts;"
	@echo "docs takes ARGS for sphinx-build"

demo: $(STAMP) ## cluster the digits of an unlabelled domain
	$(PY) docs/examples/demo_digits.py $(if $(DATA),--data "$(DATA)") $(if $(OUT),--output "$(OUT)")

test: $(STAMP) ## the tests, without the slow ones
	$(PY) -m pytest -m "not slow"

test-slow: $(STAMP) ## the slow tests only
	$(PY) -m pytest -m slow

table1: $(STAMP) ## unsupervised adaptation: every method on the digit pairs (hours)
	$(PY) benchmarks/table1.py --scale $(SCALE) $(if $(DATA),--data "$(DATA)") $(ARGS)

table2: $(STAMP) ## few labels in the target: every method on the digit pairs (hours)
	$(PY) benchmarks/table2.py --scale $(SCALE) $(if $(DATA),--data "$(DATA)") $(ARGS)

docs: $(STAMP) ## the documentation, its examples run, into docs/_build/html (minutes)
	$(PY) -m sphinx -W --keep-going -b html $(ARGS) docs docs/_build/html

docs-quick: $(STAMP) ## the documentation without running its examples
	$(PY) -m sphinx -W --keep-going -b html -D plot_gallery=0 $(ARGS) docs docs/_build/html

lint: $(STAMP) ## check the style and the formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

dist: $(STAMP) ## build the wheel and the source distribution into dist/
	rm -rf build dist
	$(PY) -m build

clean: ## remove what the other targets wrote, except the environment
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo_output
	rm -rf docs/_build docs/auto_examples docs/generated
	find . -name $(notdir $(VENV)) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# An environment that works is kept; one that is missing or has no pip is (re)made.
$(STAMP): pyproject.toml setup.py constraints.txt
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		command -v $(PYTHON) >/dev/null || { \
			echo "$(PYTHON) was not found: pass PYTHON=/path/to/python3.11 or newer" >&2; \
			exit 1; }; \
		$(PYTHON) -c '$(CHECK_VERSION)' || exit 1; \
		echo "Making the environment $(VENV)"; \
		$(PYTHON) -m venv $(VENV) || exit 1; \
	fi
	@$(PY) -c '$(CHECK_VERSION)' || { echo "Delete $(VENV) and try again" >&2; exit 1; }
	@echo "Installing sklearn-ckm into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev,plot]"
	@touch $@
