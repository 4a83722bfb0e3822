# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench peers soak clean

help:
	@echo "make demo   set up, then render a video with the built-in model"
	@echo "make test   set up, then run the tests (minutes)"
	@echo "make lint   ruff, mypy and the floor laws"
	@echo "make bench  measure start-up, the demo, memory, the library, checks, plans, long clips and the screen"
	@echo "make soak   the long proofs: repeats, fuzz, cancels, kills"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/wan-tui demo

test: $(INSTALLED)
	$(BIN)/pytest -m "not soak" -n auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.library
	$(BIN)/python -m benchmarks.check
	$(BIN)/python -m benchmarks.trace
	$(BIN)/python -m benchmarks.windows
	$(BIN)/python -m benchmarks.screen

# Two other terminal apps, to be timed beside this one; each needs a Textual of its own.
peers: $(INSTALLED)
	for peer in posting harlequin; do $(PYTHON) -m venv .venv-peers/$$peer && \
	.venv-peers/$$peer/bin/pip install --quiet --disable-pip-version-check $$peer 'tree-sitter<0.26' || exit 1; done

soak: $(INSTALLED)
	$(BIN)/pytest -m soak -s

clean:
	rm -rf $(VENV) .venv-peers build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
