# make quickstart  trains the quickstart's two networks and draws their curves
# make test        the tests that are not slow
# make test-all    all tests
# make smoke       a few tests with the oldest Python that is installed and the oldest packages allowed
# make test-plans  the tests that need the compiler for GPUs, but no GPU
# make evidence    measures windows and thumbnails on photographs of the retina, in runs/evidence
# make lint        ruff, its checks and its format
# make types       basedpyright, over the package
# make test-clusters  tests with real SLURM, Open MPI and MPICH, and simulated hosts: as root, on Debian or Ubuntu
# make soak        kills runs at random for MINUTES=60, resumes them and compares the bits; SEED=1 repeats the draws
# make docs        README and the pages of docs/ as a site, in site/; a broken link is an error
# make test-docs   runs the commands, Python examples and notebooks of the documentation, in small sizes
# make lock        writes requirements*.txt, the exact versions, from the ranges of pyproject.toml
#
# Each makes or repairs its own environment first, see environment.sh. PYTHON=python3.12 make test chooses the interpreter.
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
SMOKE_LOCK := requirements-oldest.txt
UV := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.12 --annotation-style line \
	--custom-compile-command "make lock" pyproject.toml

.PHONY: quickstart evidence test test-all test-plans test-clusters test-docs soak smoke lint types docs lock run-environment dev-environment
quickstart: run-environment
	bash quickstart.sh $(BIN)/python

evidence: dev-environment
	bash benchmarks/real/evidence.sh $(BIN)/python

test: lint
	$(PYTEST) -m "not slow"

test-all: lint types
	$(PYTEST)

smoke:
	@CHOOSE=oldest bash environment.sh .venv-smoke $(SMOKE_LOCK)
	.venv-smoke/bin/python -m pytest -m smoke

test-plans:
	@bash environment.sh .venv-gpu-plan requirements-gpu-plan.txt
	.venv-gpu-plan/bin/python -m pytest tests/planning/test_gpu_plans.py

# The machine's own SLURM services are not used: the tests start theirs in a separate folder.
test-clusters: dev-environment
	@bash tests/clusters/install.sh
	$(BIN)/python -m pytest -m clusters tests/clusters --durations=0

soak: dev-environment
	$(BIN)/python -m tests.soak --minutes=$(or $(MINUTES),60) $(if $(SEED),--seed=$(SEED))

lint: dev-environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev-environment
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs:
	@bash environment.sh .venv-docs requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

test-docs: dev-environment
	$(BIN)/python -m pytest -m docs --numprocesses=2 --dist=load --durations=0 tests/docs

lock: dev-environment
	$(UV) --output-file requirements.txt
	$(UV) --constraint requirements.txt --extra dev --output-file requirements-dev.txt
	$(UV) --constraint requirements.txt --extra tpu --output-file requirements-tpu.txt
	$(UV) --constraint requirements.txt --extra gpu --output-file requirements-gpu.txt
	$(UV) --constraint requirements.txt --extra gpu-plan --output-file requirements-gpu-plan.txt
	$(UV) --constraint requirements.txt --extra docs --output-file requirements-docs.txt
	$(UV) --resolution lowest-direct --extra dev --output-file requirements-oldest.txt

run-environment:
	@bash environment.sh .venv requirements.txt

dev-environment:
	@bash environment.sh .venv requirements-dev.txt requirements.txt
