# make audit   the main job: report/index.html for the bundled networks
# make test    everything that CI runs: ruff, mypy, pytest
# Every target sets up its own virtual environment in .venv first; nothing else is needed.

BIN := .venv/bin
INSTALLED := .venv/.installed
# The first interpreter that starts and is new enough.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)
# A folder of VNN-COMP form (one folder per benchmark, each with instances.csv) and options for `make bench`.
BENCHMARKS ?= ../shared/data/vnncomp
OPTIONS ?=

.PHONY: setup audit picture docs test lint bench
.DELETE_ON_ERROR:

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "tightcert needs Python 3.11 or later; none was found (make PYTHON=/path/to/python)." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m verifier.warm
	@touch $@

audit: setup
	$(BIN)/tightcert audit -o report

# The picture of README.md, from the last audit.
picture: audit
	$(BIN)/python -c "from pathlib import Path; from verifier.report import Audit; from verifier.report.overview import save; \
		save(Audit.from_json(Path('report/results.json').read_text()), 'docs/audit.png')"

# The figures of the chapters in docs/.
docs: setup
	$(BIN)/python -m docs.figures

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

test: lint
	$(BIN)/python -m pytest -n 2 --quiet --durations=15

bench: setup
	$(BIN)/python -m benchmarks.verify $(BENCHMARKS) $(OPTIONS)
