# `make demo` and `make test` do all their own set-up, from a bare clone on.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = runs/demo

.PHONY: demo check test notebooks bench pages clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $@

# scenes -> masked pre-training -> depth fine-tuning -> comparison on rooms that neither has seen
demo: $(VENV)/.installed
	$(BIN)/ckaprobe data make rooms $(DEMO)/scenes
	$(BIN)/ckaprobe train --recipe demo --out $(DEMO) --set data.scenes=$(DEMO)/scenes
	$(BIN)/ckaprobe compare $(DEMO)/masked.safetensors $(DEMO)/depth.safetensors \
		--data nyuv2:$(DEMO)/scenes:test --out $(DEMO)/compare

# format, lint, types and the fast tests
check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -q -m "not slow"

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -q

# runs every notebook from top to bottom and keeps what it puts out
notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/run.py

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/compare.py

# one page of each committed report, from its text, tables and figures
pages: $(VENV)/.installed
	for folder in reports/*/; do $(BIN)/ckaprobe report $$folder || exit 1; done

clean:
	rm -rf $(VENV) runs
