# `make demo` shows the main job, `make test` runs every test; both set up .venv first.
# Needs Python 3.11 or later, and access to PyPI, crates.io and the distribution's packages.
# With LOCKED=1, as in CI, exactly the files whose hashes are in requirements-dev.txt are installed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/invoke dev.demo

test: $(READY)
	$(BIN)/invoke dev.all

lint: $(READY)
	$(BIN)/invoke dev.lint

bench: $(READY)
	$(BIN)/invoke dev.bench

clean:
	rm -rf .venv

# Debian has ensurepip in a separate package: without it, the system's pip installs into the environment.
$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 4; }
	$(PYTHON) -m venv --clear .venv 2>/dev/null || \
		{ $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
ifdef LOCKED
	$(PIP) install --quiet --require-hashes --requirement requirements-dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
else
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --editable . --group dev
endif
	@touch $@
