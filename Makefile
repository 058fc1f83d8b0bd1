# Reelseek. `make demo` shows the main job on real video files, `make test` proves the rest; each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
VIDEOS ?=
# What LONG=1 adds to the tests: those that are marked long, and checks of every tensor's shape, which cost a quarter of
# what models compute.
SHAPES := --jaxtyping-packages=reelseek.models,beartype.beartype
# A person sees what is fetched; a log does not need it.
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet) -c constraints.txt

.PHONY: help setup demo test lint docs screenshots bench clean
help:
	@echo "make setup           a virtual environment in $(VENV) with everything pinned by constraints.txt"
	@echo "make demo            films a small archive, ingests, trains, measures and searches it"
	@echo "make demo VIDEOS=DIR the same with your own folder of videos"
	@echo "make test            the tests; with LONG=1 also those that compute for long, and with shapes checked"
	@echo "make lint            style, types and import contracts"
	@echo "make docs            the documentation as a site, in build/site"
	@echo "make screenshots     pictures of the page for that site; needs Chromium, and make test makes them too"
	@echo "make bench           what can be measured; NAME=search measures that, with ARGS"

setup: $(STAMP)

# Text recognition asks for the OpenCV build with windows, which writes over the headless one and needs system libraries
# that a bare machine lacks; what else it needs is the extra `ocr`.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reelseek needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): PyTorch (1 of 3), then what else Reelseek and its tests need (2), then the text reader (3)"
	$(PIP) torch
	$(PIP) -e '.[ocr,studio,tune,tensorboard,ray,edit,mcp,dev]'
	$(PIP) --no-deps rapidocr-onnxruntime
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/reelseek demo demo $(if $(VIDEOS),--videos "$(VIDEOS)")

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(if $(LONG),$(SHAPES),-m "not long") $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	@! grep -rnE --include="*.py" "weights_only *= *False|allow_pickle *= *True|pickle\.load\(" src benchmarks tests --exclude=test_pickles.py
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/site/index.html"

screenshots: $(STAMP)
	$(BIN)/python -m pytest -q -n 0 tests/web/page/test_screenshots.py

bench: $(STAMP)
	@$(if $(NAME),$(BIN)/python benchmarks/$(NAME).py $(ARGS),for script in benchmarks/*.py; do \
	  printf "%-14s %s\n" "$$(basename $$script .py)" "$$(sed -n '1s/^\"\"\"//p' $$script)"; done)

clean:
	rm -rf $(VENV) demo build
