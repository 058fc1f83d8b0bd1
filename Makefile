# Reelseek. `make demo` shows the main job on real video files, `make test` proves the rest; each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
VIDEOS ?=

.PHONY: help setup demo test lint bench clean
help:
	@echo "make setup           a virtual environment in $(VENV) with everything pinned by constraints.txt"
	@echo "make demo            films a small archive, ingests, trains, measures and searches it"
	@echo "make demo VIDEOS=DIR the same with your own folder of videos"
	@echo "make test            all tests"
	@echo "make lint            style, types and import contracts"
	@echo "make bench           what is measured against a peer"

setup: $(STAMP)

# OpenCV comes in two builds that overwrite each other: text recognition asks for the one with windows, which needs
# system libraries that a bare machine lacks. The headless build of the same version is laid over it, last.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reelseek needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ocr,studio,tune,tensorboard,ray,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --force-reinstall opencv-python-headless
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/reelseek demo demo $(if $(VIDEOS),--videos "$(VIDEOS)")

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	@! grep -rnE --include="*.py" "weights_only *= *False|allow_pickle *= *True|pickle\.load\(" src benchmarks tests --exclude=test_pickles.py
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo build
