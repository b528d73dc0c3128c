# Everything happens in .venv; only Python 3.11 or newer and make are needed beforehand.
VENV := .venv
BIN := $(VENV)/bin

# The first of these that is new enough and can make a virtual environment; `make PYTHON=...` names another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
NONE := no Python from 3.11 up (with its venv module) is on the path; install one, or name it: make PYTHON=/path/to/python

# The versions that demo, test and truth use, those of the build included; `make latest` goes without.
CONSTRAINTS := constraints.txt
PIP = $(if $(CONSTRAINTS),PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS)) $(BIN)/python -m pip install -q

.PHONY: demo test latest truth wheel-check bench docs pictures clean

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "$(NONE)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Compiled as pip compiles a wheel: an environment that lets Python write no such files would compile at every start.
$(VENV)/.base: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) --upgrade-strategy only-if-needed -e '.[serve]'
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[dev,serve]'
	touch $@

$(VENV)/.truth: $(VENV)/.dev
	$(PIP) -e '.[dev,truth,fit,serve]' 'onnxruntime>=1.20' 'gguf>=0.10'
	$(PIP) 'llama-cpp-python[server]>=0.3.10' \
		|| echo "llama.cpp could not be built here (that takes a C++ compiler): its checks skip"
	touch $@

demo: $(VENV)/.base  ## explain a real model on a real machine
	mkdir -p out
	$(BIN)/tierwise explain llama-3.1-8b --on h100-sxm --batch 32 --prompt 2048 --output 256 \
		--html out/report.html --trace out/trace.json
	@echo
	@echo "The command is $(BIN)/tierwise; to call it by its name alone: . $(BIN)/activate"

test: $(VENV)/.dev  ## lint, types, layers, tests: light, no torch
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests -m "not truth" -n auto

# What releases of other packages can break: reading, compiling, printing. Papers, searches and the README's commands
# run the same code on more cases and take most of the time.
LIGHT := --ignore=tests/papers --ignore=tests/search --ignore=tests/test_readme.py

latest:  ## the light tests with the newest release of everything, in a venv of its own
	$(MAKE) VENV=.venv-latest CONSTRAINTS= .venv-latest/bin/python
	.venv-latest/bin/python -m pip install -q --upgrade --upgrade-strategy eager -e '.[dev,serve]'
	.venv-latest/bin/python -m pytest tests -m "not truth" -n auto $(LIGHT)

# Built and installed as a user gets it, outside the tree: what a wheel lacks (catalogs, tables, pages) fails here.
WHEEL := $(CURDIR)/out/wheel
wheel-check: $(BIN)/python  ## the wheel, installed into a clean venv, answers
	rm -rf $(WHEEL)
	PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) $(BIN)/python -m pip wheel -q --no-deps -w $(WHEEL) .
	$(BIN)/python -m venv $(WHEEL)/venv
	PIP_CONSTRAINT=$(CONSTRAINTS) $(WHEEL)/venv/bin/python -m pip install -q $(WHEEL)/*.whl
	cd $(WHEEL) && PATH=$(WHEEL)/venv/bin:$$PATH sh -euc '\
		tierwise explain llama-3.1-8b --on h100-sxm --sensitivity --html page.html --table ops.csv --json answer.json; \
		tierwise plan serve llama-3.1-8b --on 2xh100-sxm --rate 2/s --html plan.html --out launch; \
		tierwise plan train llama-3.1-8b --on 8xh100-sxm --html train.html; \
		tierwise diff answer.json "llama-3.1-8b --on a100-80gb" --html diff.html; \
		tierwise papers run kivi; tierwise techniques; tierwise machines dgx-h100; tierwise models deepseek-v3; \
		python -c "import tierwise, sys; sys.exit(\"out/wheel/venv\" not in tierwise.__file__)"' >$(WHEEL)/said
	@echo "the wheel answers: $$(ls $(WHEEL)/*.whl)"

truth: $(VENV)/.truth wheel-check  ## against torch, transformers and the shared measurements
	$(BIN)/python -m pytest tests -m truth -rs -s
	$(BIN)/python -m pytest tests/cost tests/measure -m "not truth" -rs -n auto

bench: $(VENV)/.dev  ## speed, as ratios against a baseline in the same run
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/serving_speed.py
	$(BIN)/python benchmarks/planner_speed.py

pictures: $(VENV)/.base  ## the documentation's pictures, from pages written now (needs Chromium)
	$(BIN)/python docs/picture.py

docs: $(BIN)/python  ## the documentation as a site, in out/site
	$(PIP) -e '.[docs]'
	$(BIN)/mkdocs build -q --strict

clean:
	rm -rf .venv .venv-latest out .mypy_cache .ruff_cache .pytest_cache
