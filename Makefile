# Every target sets up what it needs in a fresh checkout. `make demo` and `make test` are the two to know.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
PEERS := .bench-venv
PEERS_STAMP := $(PEERS)/.installed
OF_JOBS := .jobs-venvs
OF_JOBS_STAMPS := $(patsubst benchmarks/uses/peers/%.txt,$(OF_JOBS)/%/.installed,$(wildcard benchmarks/uses/peers/*.txt))

# Where the data sets are, if nothing says otherwise and they are there.
ifneq ($(wildcard ../shared/data),)
export VAEKIT_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo explorer test check lint format types imports tests tests-checked tutorial ablation quality faults stability tables jobs attack fuzz streaming exporting exploring bench wheel dist clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,audio,cells,explorer,onnx]'
	touch $@

$(PEERS_STAMP): benchmarks/speed/peers.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch numpy
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/speed/peers.txt
	touch $@

$(OF_JOBS)/%/.installed: benchmarks/uses/peers/%.txt constraints.txt
	$(PYTHON) -m venv $(OF_JOBS)/$*
	$(OF_JOBS)/$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch numpy
	$(OF_JOBS)/$*/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/uses/peers/$*.txt
	touch $@

explorer: $(STAMP) ## build the explorer's page, which wheels have; needs npm's registry
	$(BIN)/python hatch_build.py

demo: $(STAMP) ## train on the bundled digits, print numbers, write pictures, a report and the explorer to demo/
	@rm -rf demo && mkdir demo
	@if $(BIN)/python hatch_build.py; \
		then $(BIN)/vaekit demo --run-dir demo/digits --export demo/explorer.html; \
		else $(BIN)/vaekit train digits --run-dir demo/digits; fi
	@$(BIN)/vaekit evaluate demo/digits
	@$(BIN)/vaekit sample demo/digits -n 100 --mean --out demo/samples.png
	@$(BIN)/vaekit reconstruct demo/digits --out demo/reconstructions.png
	@$(BIN)/vaekit report demo/digits --out demo/report.html

test: check ## set up, then lint, types, import rules and tests

check: $(STAMP) lint types imports tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache

# Annotations, shapes included, are checked on every call in tests of parts; whole runs would take three times as long.
CHECKED := models objectives samplers evaluation testing data
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20 --durations-min 5
tests: $(STAMP)
	-@$(BIN)/python hatch_build.py # without the page its tests are skipped
	$(BIN)/python hatch_build.py --check
	$(PYTEST) $(CHECKED:%=tests/%)
	VAEKIT_ANNOTATIONS=unchecked $(PYTEST) $(CHECKED:%=--ignore=tests/%)

tests-checked: $(STAMP) ## all tests, annotations checked in every one
	$(PYTEST)

tutorial: $(STAMP) ## the tutorial's program against `--preset tutorial`, five seeds; writes docs/tutorial.md
	$(BIN)/python benchmarks/tutorial.py --write docs/tutorial.md

ablation: $(STAMP) ## the run without the reparametrisation trick; writes docs/ablation.md and its report
	$(BIN)/python benchmarks/ablation.py --write docs/ablation.md

quality: $(STAMP) ## the figures that the presets promise, over seeds; writes docs/quality.md and docs/disentanglement.md
	$(BIN)/python benchmarks/quality.py --write docs/quality.md
	$(BIN)/python benchmarks/disentanglement.py --write docs/disentanglement.md

faults: $(STAMP) ## kill, starve and damage runs; writes the table of docs/reliability.md
	$(BIN)/python benchmarks/faults.py --write docs/reliability.md

stability: $(STAMP) ## every preset short and long, and tables of many kinds: ruins, and silent ones; writes docs/stability.md
	$(BIN)/python benchmarks/stability.py --cells runs/stability.jsonl --write docs/stability.md

tables: $(STAMP) ## small tables under the default settings against a Gaussian; writes a table of docs/tables.md
	$(BIN)/python benchmarks/tables_gaussian.py --write docs/tables.md

jobs: $(STAMP) $(OF_JOBS_STAMPS) ## what models are used for, beside peers: holes, anomalies, tables, rankings, cells; writes docs/jobs.md
	$(BIN)/python benchmarks/jobs.py --peers $(OF_JOBS) --write docs/jobs.md

attack: $(STAMP) ## hostile files, settings and run folders, outputs cut off; writes docs/attack.md
	$(BIN)/python benchmarks/attack.py --write docs/attack.md

fuzz: $(STAMP) ## damaged files of every format, read as data; writes docs/fuzz.md, and adds what fails to the corpus
	$(BIN)/python benchmarks/fuzz.py --minutes 30 --write docs/fuzz.md

streaming: $(STAMP) ## a 4 GB set from disk against memory; writes a table of docs/scaling.md
	$(BIN)/python benchmarks/streaming.py --write docs/scaling.md

exporting: $(STAMP) ## models of every kind as ONNX against torch; writes a table of docs/export.md
	$(BIN)/python benchmarks/exporting.py --write docs/export.md

exploring: $(STAMP) explorer ## the explorer's page in Chromium and its server under load; writes a part of docs/explorer.md
	$(BIN)/python benchmarks/exploring.py --write docs/explorer.md

bench: $(STAMP) $(PEERS_STAMP) ## speed against pythae, JAX and the machine's limit; writes a part of docs/performance.md
	$(BIN)/python benchmarks/performance.py --peers $(PEERS)/bin/python --write docs/performance.md

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

dist: $(STAMP) ## the sdist, and the wheel that is built from it
	@rm -rf dist
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(PEERS) $(OF_JOBS) dist build demo
