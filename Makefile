# make demo | test | lint | types | docs | bundle | figures | gates | bench; the first call makes the virtual environment
VENV ?= .venv
PYTHON ?= python3.11
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := bundle transforms eval configs models tests benchmarks zoo containers docs

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types links docs bench bundle bundle-check figures gates niivue

help:
	@echo "make install  make $(VENV) with everything pinned"
	@echo "make demo     super-resolve the built-in sample; ends in a picture"
	@echo "make test     tests, without the slow ones"
	@echo "make lint     style"
	@echo "make types    types"
	@echo "make docs     the documentation as a site, build/site/index.html"
	@echo "make bundle   the zip for MONAI's Model Zoo, build/zoo; make bundle-check holds it to the zoo's rules"
	@echo "make figures  the figures of README, model card and docs, made anew, three hours; DATA=the folder of the data sets"
	@echo "make gates    which of what was asked of the weights these figures hold"
	@echo "make bench    speed and memory on this machine, half an hour; BENCH=--quick for a trial"

install: $(STAMP)

# torch goes first and alone: the index it comes from (CPU or CUDA) is the machine's own choice
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/bida demo

test: $(STAMP)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

# mypy cannot follow the editable install's mapping of folders to packages, so it gets the layout of the wheel as links
types: $(STAMP) links
	MYPYPATH=build/types $(BIN)/mypy --package bida

links:
	rm -rf build/types
	mkdir -p build/types/bida
	cd build/types/bida && ln -s ../../../bundle/* ../../../transforms ../../../eval ../../../configs ../../../models .

docs: $(STAMP) links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# the viewer of the pages, as its authors publish it; a new version is a new figure here
NIIVUE := 0.69.0
niivue:
	rm -rf build/niivue
	mkdir -p build/niivue
	cd build/niivue && npm pack @niivue/niivue@$(NIIVUE) && tar xzf *.tgz
	cp build/niivue/package/dist/niivue.umd.js bundle/report/
	printf '{\n  "name": "@niivue/niivue",\n  "version": "%s",\n  "file": "dist/niivue.umd.js",\n  "sha256": "%s",\n  "license": "BSD-2-Clause",\n  "refreshed_by": "make niivue"\n}\n' \
	    $(NIIVUE) $$(sha256sum bundle/report/niivue.umd.js | cut -d' ' -f1) > bundle/report/niivue.json

bundle: $(STAMP)
	$(BIN)/python zoo/build.py

bundle-check: $(STAMP)
	$(BIN)/python -m pytest tests/zoo

bench: $(STAMP)
	$(BIN)/python benchmarks/superres.py $(BENCH)
	$(BIN)/python benchmarks/train_speed.py $(BENCH)

# README, model card and docs tell what this measures; it goes on where it was cut off
figures: $(STAMP)
	$(BIN)/python benchmarks/figures.py $(DATA)

gates: $(STAMP)
	$(BIN)/python benchmarks/gates.py
