PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test check bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## train, quantize, restore in a new process
	$(RUN) examples/digits/demo.py

test: $(VENV)/installed check  ## style, types, tests
	$(RUN) -m pytest

check: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/installed  ## the planted net: passes, seconds, ops, speed
	$(RUN) benchmarks/planted.py

clean:
	rm -rf $(VENV) lpot_workspace
