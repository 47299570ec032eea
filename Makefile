PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PEERS := .venv-bench
WORKERS ?= 2
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test soak check bench bench-peers chaos clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## train, quantize, restore in a new process
	$(RUN) examples/digits/demo.py

test: $(VENV)/installed check  ## style, types, tests
	$(RUN) -m pytest $(SPREAD)

soak: $(VENV)/installed check  ## all tests, the long ones too, none left out; then `make chaos`
	$(RUN) -m pytest $(SPREAD) -m '' --all-of-it
	$(MAKE) chaos

check: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/installed  ## what a search costs and finds, and what it has to itself; QUICK=--quick
	$(RUN) benchmarks/planted.py $(QUICK)
	$(RUN) benchmarks/nets.py $(QUICK)
	$(RUN) benchmarks/overhead.py $(QUICK)
	$(RUN) benchmarks/search.py $(QUICK)
	$(RUN) benchmarks/screening.py $(QUICK)
	$(RUN) benchmarks/memory.py $(QUICK)
	$(RUN) benchmarks/loading.py $(QUICK)
	$(RUN) benchmarks/ddp.py $(QUICK)
	$(RUN) benchmarks/qat.py $(QUICK)
	$(RUN) benchmarks/pruning.py $(QUICK)

$(PEERS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

bench-peers: $(PEERS)/installed  ## NNCF in an environment of its own, for a row of `make bench`

chaos: $(VENV)/installed  ## kill tuning runs 200 times, interrupt them, and go on with them
	$(RUN) tests/scenes/chaos.py
	$(RUN) tests/scenes/stops.py

clean:
	rm -rf $(VENV) $(PEERS) lpot_workspace
