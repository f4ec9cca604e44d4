# make demo   sets everything up, runs the break-fix cycle on SmolLM2-135M-Instruct, prints the table
# make test   sets everything up, runs the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# as breakfix.cli sets it, for tests and benchmarks
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 20000

.PHONY: setup demo test slow harness adapters lint bench clean

setup: $(VENV)/ready-dev

$(VENV)/ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	@$(PIP) --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready
	@$(BIN)/breakfix demo

test: $(VENV)/ready-dev
	@$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

slow: $(VENV)/ready-dev
	@$(BIN)/python -m pytest -m slow

harness: $(VENV)/ready-dev
	@$(PIP) --editable '.[lm-eval]'
	@$(BIN)/python -m pytest tests/test_lm_eval.py

# an environment of its own: garak wants an older transformers than everything else is tested with
ADAPTERS := $(VENV)-adapters
adapters: $(ADAPTERS)/ready
	@$(ADAPTERS)/bin/python -m pytest tests/test_adapters.py

$(ADAPTERS)/ready: pyproject.toml constraints-adapters.txt
	@test -x $(ADAPTERS)/bin/python || $(PYTHON) -m venv $(ADAPTERS)
	@$(ADAPTERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-adapters.txt \
	  --editable '.[pyrit,garak]' pytest
	@touch $@

lint: $(VENV)/ready-dev
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/ready-dev
	@for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

clean:
	rm -rf $(VENV) $(ADAPTERS) .pytest_cache .ruff_cache .hypothesis
