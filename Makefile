PYTHON ?= python3
UV ?= $(or $(wildcard .venv/bin/uv),uv)
BIN := .venv/bin
TYPED := $(wildcard features models training analysis serving cli benchmarks tests)
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

.PHONY: demo test test-slow lint bench serve ui lock clean

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# The whole road on published data: events, signals, models, answers. Everything it writes goes to var/ and mlruns/.
demo: .venv/.installed
	$(BIN)/ebbtide demo

test: .venv/.installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: .venv/.installed
	$(BIN)/python -m pytest -m slow -rs

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)

bench: .venv/.installed
	set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

# What `make demo` deployed, at the end of its data.
serve: .venv/.installed
	$(BIN)/ebbtide serve --store var/demo/store --deployed var/demo/deployed --as-of 2018-01-01

ui: .venv/.installed
	$(BIN)/ebbtide ui

# Needs uv, which is not in the lock itself.
lock:
	$(UV) pip compile pyproject.toml --extra demo --extra dev --universal --generate-hashes \
		--python-version 3.11 --no-annotate --no-header -o requirements.lock

# Leaves .venv and the tracked runs under mlruns/ alone.
clean:
	rm -rf var build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +
