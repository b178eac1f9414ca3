# make quickstart: train the quickstart's two networks and draw their curves.   make test: the whole test suite.
# Each makes its own environment in .venv first.  PYTHON=python3.12 make test  chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test lint
quickstart: .venv/run
	bash quickstart.sh $(BIN)/python

test: .venv/dev lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

lint: .venv/dev
	$(BIN)/ruff check .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements.txt pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --requirement requirements.txt && touch $@

.venv/dev: requirements.txt requirements-dev.txt pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --requirement requirements-dev.txt && touch $@
