PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PEERS := .venv-bench
INC := .venv-inc
NEWEST := .venv-newest
WORKERS ?= 2
MINUTES ?= 60
# Where torch is asked for more than its public face. In `tests/quantization` are the engine's own.
ENGINE = tests/quantization $(addprefix tests/whole_runs/test_,first_call.py freed.py \
	int8_elsewhere.py int8_in_use.py model_zoo.py peoples_nets.py torchscript.py transformers.py) \
	tests/artifacts tests/museum tests/examples/test_saving_and_loading.py
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo docs test newest soak check bench bench-peers compare pictures chaos clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## train, quantize, restore in a new process
	$(RUN) examples/digits/demo.py

docs: $(VENV)/installed  ## the site: docs/_build/index.html
	$(RUN) -m sphinx -c docs -W --keep-going -q . docs/_build

test: $(VENV)/installed check  ## style, types, tests
	$(RUN) -m pytest $(SPREAD)

soak: $(VENV)/installed check  ## all tests, the long ones too, none left out; then the kits in turns
	$(RUN) -m pytest $(SPREAD) -m '' --all-of-it
	$(RUN) tests/scenes/soak.py --minutes $(MINUTES)

$(NEWEST)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(NEWEST)
	grep -Ev '^(torch|transformers)==' constraints.txt > $(NEWEST)/constraints.txt
	$(NEWEST)/bin/pip install --quiet --upgrade torch torchvision
	$(NEWEST)/bin/pip install --quiet --constraint $(NEWEST)/constraints.txt --editable '.[dev]'
	touch $@

newest: $(NEWEST)/installed  ## the engine's tests on the newest torch and transformers, a CUDA build: 6 GB
	$(NEWEST)/bin/python -c 'import torch; print("torch", torch.__version__)'
	$(NEWEST)/bin/python -m pytest $(SPREAD) $(ENGINE)

check: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/installed  ## what a search costs and finds, and how fast int8 is; QUICK=--quick
	$(RUN) benchmarks/planted.py $(QUICK)
	$(RUN) benchmarks/nets.py $(QUICK)
	$(RUN) benchmarks/today.py $(QUICK)
	$(RUN) benchmarks/zoo_speed.py $(QUICK)
	$(RUN) benchmarks/rungs.py $(QUICK)
	$(RUN) benchmarks/bounds.py $(QUICK)
	$(RUN) benchmarks/overhead.py $(QUICK)
	$(RUN) benchmarks/search.py $(QUICK)
	$(RUN) benchmarks/screening.py $(QUICK)
	$(RUN) benchmarks/memory.py $(QUICK)
	$(RUN) benchmarks/loading.py $(QUICK)
	$(RUN) benchmarks/ddp.py $(QUICK)
	$(RUN) benchmarks/qat.py $(QUICK)
	$(RUN) benchmarks/qat_or_ptq.py $(QUICK)
	$(RUN) benchmarks/pruning.py $(QUICK)

$(PEERS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

bench-peers: $(PEERS)/installed  ## others' int8 beside ours; then `make bench` has a row of NNCF
	$(PEERS)/bin/python benchmarks/today_peers.py $(QUICK)
	$(PEERS)/bin/python benchmarks/deploy_peers.py $(QUICK)
	$(PEERS)/bin/python benchmarks/rungs_peers.py $(QUICK)

$(INC)/installed:
	$(PYTHON) -m venv $(INC)
	$(INC)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(INC)/bin/pip install --quiet --constraint constraints.txt 'neural-compressor[pt]==3.10'
	touch $@

compare: $(PEERS)/installed  ## int8 of others beside ours on ten small nets: benchmarks/RESULTS.md; QUICK=--quick
	-$(MAKE) $(INC)/installed
	$(PEERS)/bin/python benchmarks/comparison/compare.py $(QUICK)

pictures: $(VENV)/installed  ## the picture of a report in docs; needs Chromium
	$(RUN) docs/pictures/make.py

chaos: $(VENV)/installed  ## kill runs, let disks fail, interrupt, let processes hang, and go on
	$(RUN) tests/scenes/chaos.py
	$(RUN) tests/scenes/disk_chaos.py
	$(RUN) tests/scenes/crash_states.py
	$(RUN) tests/scenes/stops.py
	$(RUN) tests/scenes/ranks_chaos.py

clean:
	rm -rf $(VENV) $(PEERS) $(INC) $(NEWEST) .compare docs/_build lpot_workspace
