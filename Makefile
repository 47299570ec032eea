PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test check bench chaos clean

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

bench: $(VENV)/installed  ## passes, seconds, ops, speed; memory over 200 trials; two processes
	$(RUN) benchmarks/planted.py
	$(RUN) benchmarks/memory.py
	$(RUN) benchmarks/ddp.py

chaos: $(VENV)/installed  ## kill tuning runs 200 times, interrupt them, and go on with them
	$(RUN) tests/callbacks/chaos.py
	$(RUN) tests/callbacks/stops.py

clean:
	rm -rf $(VENV) lpot_workspace
