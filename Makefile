# Everything happens in .venv; only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test truth bench lint clean

$(VENV)/.base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade-strategy only-if-needed -e '.[serve]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

$(VENV)/.truth: $(VENV)/.dev
	$(BIN)/python -m pip install -q -e '.[dev,truth,fit,serve]' 'onnxruntime>=1.20' 'gguf>=0.10'
	$(BIN)/python -m pip install -q 'llama-cpp-python[server]>=0.3.10' \
		|| echo "llama.cpp could not be built here (that takes a C++ compiler): its checks skip"
	touch $@

demo: $(VENV)/.base  ## explain a real model on a real machine
	mkdir -p out
	$(BIN)/tierwise explain llama-3.1-8b --on h100-sxm --batch 32 --prompt 2048 --output 256 \
		--html out/report.html --trace out/trace.json

test: $(VENV)/.dev  ## lint, types, tests: light, no torch
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/python -m pytest tests -m "not truth" -n auto

truth: $(VENV)/.truth  ## against torch, transformers and the shared measurements
	$(BIN)/python -m pytest tests -m truth -rs -s
	$(BIN)/python -m pytest tests/cost tests/measure -m "not truth" -rs -n auto

bench: $(VENV)/.dev  ## speed, as ratios against a baseline in the same run
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/serving_speed.py
	$(BIN)/python benchmarks/planner_speed.py

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache
