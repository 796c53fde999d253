# The first suitable interpreter; choose another with `make setup PYTHON=python3.12`.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c \
    'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)) python3)
VENV ?= .venv
READY := $(VENV)/.ready

.PHONY: help setup demo test test-all docs figures bench clean

help: ## show this list
	@echo "nerf_pl: neural radiance fields in PyTorch and Lightning"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## install everything into .venv, at the versions of requirements.lock (Python >= 3.11)

demo: $(READY) ## make a small scene, train on it and render a video
	$(VENV)/bin/nerf demo

test: $(READY) ## lint, check the formatting and the types, run the tests that are not marked slow
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/pytest

test-all: $(READY) ## run all tests, those marked slow included
	$(VENV)/bin/pytest -m ""

docs: $(READY) ## build the pages of docs into the folder site, readable offline
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q "mkdocs-material>=9.6" "mkdocstrings[python]>=0.30" \
	    "latex2mathml>=3.77"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@echo "open site/index.html"

figures: $(READY) ## make the figures of the pages
	$(VENV)/bin/python docs/figures.py
	$(VENV)/bin/python docs/math_figures.py
	$(VENV)/bin/python docs/captures.py
	$(VENV)/bin/python docs/gallery.py

bench: $(READY) ## measure the speed on this machine
	$(VENV)/bin/nerf bench

clean: ## remove .venv and the caches of tools; runs and data stay
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find nerf_pl tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "nerf_pl needs Python 3.11" \
	    "or newer, and $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing): make setup PYTHON=/path/to/python3.12" \
	    >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "installed: $(VENV)/bin/nerf; or 'source $(VENV)/bin/activate' once, then 'nerf'"
