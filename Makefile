# Each target makes what it needs: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WEB := tools/web
WEB_READY := $(WEB)/node_modules/.ready
PAGES := "src/ilk/reports/web/**/*.{js,css,ts}"
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() or 1, 8))")

# One lane of the tests: a worker for each core, a thread for each worker, durations in build/LANE.xml.
WORKERS ?= auto
LANE = OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/$@ -n $(WORKERS) --maxprocesses 8 --dist loadfile --junitxml build/$@.xml

.PHONY: demo test unit training robust lint lint-web format slow docs clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)  ## sort real handwritten digits into clusters (two minutes)
	$(BIN)/ilk demo

test: unit training  ## what to run before each commit: two lanes of three

unit: $(READY)  ## tests that take less than a second each
	$(LANE)

training: $(READY)  ## tests of small trainings, less than five seconds each
	$(LANE)

robust: $(READY)  ## kills, processes, hostile files, fuzzing, the browser, benchmarks, examples
	$(LANE)

slow: $(READY)  ## the tests that train for minutes
	$(BIN)/python -m pytest -m slow

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory lint-web; \
	else echo "npm was not found, so the JavaScript of the report is not checked; install Node.js 20 or newer."; fi

$(WEB_READY): $(WEB)/package.json $(WEB)/package-lock.json
	npm ci --prefix $(WEB) --no-fund --no-audit
	touch $(WEB_READY)

lint-web: $(WEB_READY)  ## types, style and format of the JavaScript in the report (needs Node.js)
	$(WEB)/node_modules/.bin/tsc --project $(WEB)/tsconfig.json
	$(WEB)/node_modules/.bin/eslint --config $(WEB)/eslint.config.js --max-warnings 0 src/ilk/reports/web
	$(WEB)/node_modules/.bin/prettier --config $(WEB)/.prettierrc.json --check --log-level warn $(PAGES)

docs: $(READY)  ## the documentation site, in build/site; any warning is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if [ -f $(WEB_READY) ]; then \
	$(WEB)/node_modules/.bin/prettier --config $(WEB)/.prettierrc.json --write --log-level warn $(PAGES); fi

clean:
	rm -rf $(VENV) $(WEB)/node_modules .mypy_cache .ruff_cache .pytest_cache
