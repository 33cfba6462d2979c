# `make demo` and `make test` set themselves up; nothing but Python 3.11+ and make is needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test check soak bench lock clean
.DEFAULT_GOAL := help

SECONDS ?= 300

help:
	@echo "make demo    the main job end to end, offline, on the embedded store"
	@echo "make test    lint, types, import rules, tests (under 5 minutes)"
	@echo "make soak    the long tests: kills, soak, many processes   (SECONDS=300)"
	@echo "make bench   ratios against peers, in one run"
	@echo "make lock    resolve the pinned dependencies anew (needs uv)"

$(VENV)/.runtime: .ci/runtime.lock pyproject.toml
	@test -x $(BIN)/python || { echo "making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing Gimbal (once)"
	@$(PIP) --require-hashes -r .ci/runtime.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime .ci/dev.lock
	@echo "installing what the tests need (once)"
	@$(PIP) --require-hashes -r .ci/dev.lock
	@touch $@

demo: $(VENV)/.runtime
	@$(BIN)/gimbal demo

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

soak: $(VENV)/.dev
	$(BIN)/python tests/hostile/soak/start.py tests.hostile.soak.run --seconds $(SECONDS)
	$(BIN)/pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/run.py

lock:
	echo 'setuptools<81' | uv pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra embedded -o .ci/runtime.lock -q
	echo 'setuptools<81' | uv pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra embedded --group dev -c .ci/runtime.lock -o .ci/dev.lock -q

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
