# make demo: satellite images from the shipped model, into demo/.  make test: lint, types and the CPU test suite.
# Both set up everything they need in .venv.
PYTHON ?= python3
MODEL ?= gensat-small
BIN := .venv/bin

.PHONY: demo test slow bench lint clean

demo: .venv/runs
	$(BIN)/gensat demo -o demo --overwrite

test: .venv/develops lint
	$(BIN)/pytest -n 2 --dist loadfile -q

slow: .venv/develops
	$(BIN)/pytest -q -m slow

bench: .venv/develops
	$(BIN)/python -m benchmarks.loop
	$(BIN)/python -m benchmarks.startup --model $(MODEL)
	$(BIN)/python -m benchmarks.speed --model $(MODEL)
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.ground
	$(BIN)/python -m benchmarks.ground_density
	$(BIN)/python -m benchmarks.flood --clock cpu

lint: .venv/develops
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types/gensat
	ln -sfn $(CURDIR)/gensat/* $(CURDIR)/pipelines $(CURDIR)/conditioning $(CURDIR)/train $(CURDIR)/assets build/types/gensat/
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p gensat  # the mapped folders, as one package

.venv/runs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/develops: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/runs

clean:
	rm -rf .venv build dist demo *.egg-info
