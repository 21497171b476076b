# `make demo` and `make test` work on a fresh clone with nothing installed but Python (3.11 or newer) and make.
# The first call makes .venv with the versions of constraints.txt; later calls find it in place.

VENV := .venv
BIN := $(VENV)/bin
# Processes that the tests run in, each with one thread; a file's tests stay together, for what they share.
WORKERS ?= 2
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: help demo test check format bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    ask a small model which training documents taught it its facts; a report in runs/demo"
	@echo "make test    the test suite and the doctests"
	@echo "make check   format, lint, types, then the tests: what CI runs"
	@echo "make bench   time every pass; writes bench/RESULTS.md and bench/results"
	@echo "make docs    the reference of the commands from their own help, then the site, strictly, into site/"

demo: $(VENV)/.installed
	$(BIN)/whence demo --out runs/demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/commands.py > docs/commands.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Torch comes first and by itself, so that the build of it that suits this machine is chosen once; everything
# else is then resolved around it. A stamp says that an installation was finished, not merely begun.
$(VENV)/.installed: pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "make: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; a few minutes) …" >&2
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@
