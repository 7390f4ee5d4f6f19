# Works on a fresh machine with Python 3.11 or newer, pip and make.
#   make run      makes .venv, installs what the journey needs, runs it, prints the scoreboard
#   make test     makes .venv, installs what the tests need, runs them all
# PYTHON=...      the interpreter .venv is made with; without it the newest of 3.13, 3.12 and 3.11 that really runs
# TORCH_INDEX=... where torch's CPU build is looked for first; empty takes what PyPI has, which on Linux means CUDA

PYTHON ?= $(shell for v in 3.13 3.12 3.11 3; do python$$v -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo python$$v && break; done)
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
VENV ?= .venv
OUT ?= journey

py := $(VENV)/bin/python
pip = $(py) -m pip --disable-pip-version-check
needs := settings.ini setup.py constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test lab readme outputs assets docs recipes bench check oldest export stamp

help:
	@sed -n 's/^#   //p' Makefile
	@echo "also: lab readme outputs assets docs recipes bench check oldest export stamp"

$(py):
	$(if $(PYTHON),,$(error No Python 3.11 or newer with venv was found (Debian: apt install python3-venv); name one with PYTHON=/path/to/python3))
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(py)
	$(pip) install -q --no-deps -c constraints.txt torch $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1 --timeout 20)
	@touch $@

$(VENV)/.journey: $(needs) | $(VENV)/.torch
	$(pip) install -q -c constraints.txt -e '.[journey]'
	@touch $@

$(VENV)/.dev: $(needs) | $(VENV)/.torch
	$(pip) install -q -c constraints.txt -e '.[all,dev]'
	@touch $@

run: $(VENV)/.journey
	$(VENV)/bin/llm-course journey --out $(OUT)
	@echo "The report: $(abspath $(OUT))/report.html"

test: $(VENV)/.dev
	$(py) -m pytest

lab: $(VENV)/.dev
	$(VENV)/bin/llm-course lab

readme: $(VENV)/.dev
	$(py) tools/readme.py

outputs: $(VENV)/.dev
	$(py) tools/outputs.py

assets: $(VENV)/.dev
	$(py) tools/outputs.py --flags slow

docs:
	@command -v quarto >/dev/null || { echo "make docs needs Quarto, which is not installed here: https://quarto.org/docs/get-started/" >&2; exit 1; }
	$(MAKE) $(VENV)/.dev
	$(py) -c 'from nbdev.serve import proc_nbs; proc_nbs()'
	cd _proc && quarto render --no-cache
	rm -rf _docs && mv _proc/_docs _docs

# What Axolotl, AutoTrain and DeepSpeed make of the files of finetuning/07_recipe; gigabytes, in an environment of its own.
RECIPES ?= .venv-recipes
recipes: $(VENV)/.dev
	$(PYTHON) -m venv $(RECIPES)
	$(RECIPES)/bin/python -m pip install -q 'axolotl==0.19.*'
	$(RECIPES)/bin/python -m pip install -q --no-deps deepspeed==0.19.8 einops hjson msgpack ninja py-cpuinfo
	$(RECIPES)/bin/python -m pip install -q --no-deps --target $(RECIPES)/autotrain autotrain-advanced==0.8.36
	$(py) tools/recipes.py $(RECIPES)

bench: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(py) bench/run.py

export: $(VENV)/.dev
	$(VENV)/bin/nbdev_export

stamp: $(VENV)/.dev
	$(py) tools/stamp.py

check: $(VENV)/.dev
	$(py) -m pytest -q tests/test_guards.py

# The lower bounds of settings.ini. torch alone stays as in constraints.txt: its older builds on PyPI bring gigabytes of CUDA.
oldest:
	$(MAKE) VENV=.venv-oldest .venv-oldest/.oldest
	.venv-oldest/bin/python -m pytest

$(VENV)/.oldest: $(needs) | $(VENV)/.torch
	$(py) tools/oldest.py > $(VENV)/oldest.txt
	$(pip) install -q -c $(VENV)/oldest.txt -e '.[all,dev]'
	@touch $@
