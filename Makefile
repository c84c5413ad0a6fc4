# `make demo` and `make test` do all their own set-up, from a bare clone on.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = runs/demo
FIRST_HALF = tests/lab tests/papers

.PHONY: demo static check test first-half second-half notebooks bench pages docs clean

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

# format, lint and types
static: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# static checks and the fast tests, two at a time
check: $(VENV)/.installed
	$(MAKE) --jobs=2 --output-sync=target first-half second-half static PYTEST_FLAGS='-m "not slow"'

# everything, in two processes of one thread: each half takes about half of the time
test: $(VENV)/.installed
	$(MAKE) --jobs=2 --output-sync=target static first-half second-half

first-half: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PYTEST_FLAGS) $(FIRST_HALF)

second-half: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PYTEST_FLAGS) $(FIRST_HALF:%=--ignore=%)

# runs every notebook from top to bottom and keeps what it puts out
notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/run.py

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/compare.py

# one page of each committed report, from its text, tables and figures
pages: $(VENV)/.installed
	for folder in reports/*/; do $(BIN)/ckaprobe report $$folder || exit 1; done

# the documentation as a site, in runs/site
docs: $(VENV)/.installed
	$(BIN)/mkdocs build

clean:
	rm -rf $(VENV) runs
