# Everything a person or a CI does here. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
TORCH_VENV := $(CURDIR)/.venv-torch
TORCH_BIN := $(TORCH_VENV)/bin
TORCH_PIP := $(TORCH_BIN)/pip --disable-pip-version-check --quiet
WHEEL := $(TARGET)/client

CLIENT_SOURCES := Cargo.toml Cargo.lock client/python/pyproject.toml client/python/README.md \
	$(shell find client/python client/rust proto \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name Cargo.toml \) -not -path '*/target/*')
PYTHON_SOURCES := client/python/python demo tests/python tests/torture $(wildcard tests/bench)
KILLS ?= 1000

.PHONY: help build demo demo-mmengine test test-rust test-python torture bench lint fmt example-config hook-docs clean

help: ## This list
	@echo 'hookbus: make TARGET'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

build: ## The daemon and the operator's binary, optimised
	$(CARGO) build --release --locked -p hookbusd -p hookbus-cli

demo: build $(VENV)/.client ## A real training: its memory live, stopped when it diverges, steered
	@$(BIN)/python demo/demo.py --bin $(TARGET)/release

demo-mmengine: build $(TORCH_VENV)/.client ## MMEngine's Runner on two ranks, beside MMDetection's own hooks
	@$(TORCH_BIN)/python demo/demo_mmengine.py --bin $(TARGET)/release

test: test-rust test-python ## Every test, Rust and Python, with what they need
	@echo 'make test: all passed (what was skipped or ignored is named above)'

test-rust: ## The Rust tests
	$(CARGO) build --locked -p hookbusd -p hookbus-cli
	$(CARGO) test --locked --workspace

test-python: $(VENV)/.client $(TORCH_VENV)/.client ## The Python tests, the stub against the built module, the linter
	$(CARGO) build --locked -p hookbusd -p hookbus-cli -p own-daemon
	HOOKBUSD=$${HOOKBUSD:-$(TARGET)/debug/hookbusd} $(BIN)/python -m pytest -rs -m 'not torch' \
		--ignore=tests/python/with_mmengine tests/python
	HOOKBUSD=$${HOOKBUSD:-$(TARGET)/debug/hookbusd} $(TORCH_BIN)/python -m pytest -rs -m torch \
		tests/python/with_mmengine tests/python/test_steering_python.py
	cd client/python && $(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest hookbus._native --allowlist client/python/stubtest-allowlist.txt
	$(BIN)/ruff check --config client/python/pyproject.toml $(PYTHON_SOURCES)

torture: build $(VENV)/.client ## The daemon killed KILLS times (1000) under running trainings, and hooks in Python; SEED= repeats one
	HOOKBUSD=$(TARGET)/release/hookbusd PYTHONPATH=tests/python $(BIN)/python tests/torture/torture.py --timed \
		--kills $(KILLS) $(if $(SEED),--seed $(SEED))

bench: build $(VENV)/.client $(VENV)/.bench $(TORCH_VENV)/.client ## Speed, beside its targets and peers
	$(CARGO) build --release --locked -p hookbus-e2e --example ranks --example bare
	$(BIN)/python tests/bench/bench.py

lint: $(VENV)/.tools ## clippy, rustfmt, ruff and mypy, without a change
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) fmt --all --check
	$(BIN)/ruff check --config client/python/pyproject.toml $(PYTHON_SOURCES)
	$(BIN)/ruff format --check --config client/python/pyproject.toml $(PYTHON_SOURCES)
	cd client/python && $(BIN)/python -m mypy

fmt: $(VENV)/.tools ## Formats Rust and Python
	$(CARGO) fmt --all
	$(BIN)/ruff format --config client/python/pyproject.toml $(PYTHON_SOURCES)

example-config: ## Writes deploy/config/hookbusd.toml anew, from the daemon's own defaults
	$(CARGO) build --locked -p hookbusd
	$(TARGET)/debug/hookbusd --example-config > deploy/config/hookbusd.toml

hook-docs: ## Writes docs/hooks anew, a page a hook, from the daemon's one list of hooks
	$(CARGO) build --locked -p hookbusd
	rm -rf docs/hooks
	$(TARGET)/debug/hookbusd --hook-docs docs/hooks

clean: ## Removes what was built and the virtual environments
	$(CARGO) clean
	rm -rf $(VENV) $(TORCH_VENV) .cache

# --- the virtual environments: each stamp is made again only where what it was made from is newer

$(VENV)/.made:
	@bash scripts/make-venv.sh '$(PYTHON)' '$(VENV)'
	@touch $@

$(VENV)/.tools: tests/python/requirements.txt $(VENV)/.made
	$(PIP) install -r $<
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.made
	$(PIP) install -r $<
	@touch $@

$(WHEEL)/.built: $(CLIENT_SOURCES) $(VENV)/.made
	rm -rf $(WHEEL)
	$(PIP) wheel --no-deps --wheel-dir $(WHEEL) ./client/python
	@touch $@

$(VENV)/.client: $(WHEEL)/.built $(VENV)/.tools
	$(PIP) install --force-reinstall --no-deps $(WHEEL)/*.whl
	@touch $@

$(TORCH_VENV)/.made:
	@bash scripts/make-torch-venv.sh '$(PYTHON)' '$(TORCH_VENV)'
	@touch $@

$(TORCH_VENV)/.tools: tests/python/with_mmengine/requirements.txt $(TORCH_VENV)/.made
	$(TORCH_PIP) install --no-deps -r $<
	@touch $@

$(TORCH_VENV)/.client: $(WHEEL)/.built $(TORCH_VENV)/.tools
	$(TORCH_PIP) install --force-reinstall --no-deps $(WHEEL)/*.whl
	@touch $@
