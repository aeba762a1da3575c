# The commands of a clone; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are processors: browsers, notebooks and other child processes are waited for.
WORKERS = $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() + 1))")
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

lesson: .venv/lesson ## the lesson on http://localhost:4000
	$(BIN)/stepfit learn

test: .venv/test ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --max-worker-restart 0

explore: .venv/test ## the fuzz and property tests with fresh random problems; what they find becomes a test
	env -u CI $(BIN)/python -m pytest -n $(WORKERS) --hypothesis-profile explore -m hypothesis tests

bench: .venv/bench ## stepfit against its peers; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.grid
	$(BIN)/python -m benchmarks.starts
	$(BIN)/python -m benchmarks.descent

check: .venv/test ## format, lint, types, layers, and whether docs, page and notebooks are fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/build.py --check
	$(BIN)/python -m stepfit.lesson.page.build --check
	$(BIN)/python -m stepfit.lesson.notebooks.build --check

sanitize: ## the compiled kernel under AddressSanitizer, UBSan and ThreadSanitizer
	for kind in address,undefined,float-cast-overflow thread; do \
	  cmake -S native -B build/$$kind -DSTEPFIT_SANITIZE=$$kind && \
	  cmake --build build/$$kind --parallel && build/$$kind/driver || exit; \
	done

format: .venv/test ## write the code as `make check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/test ## write docs/api.md from the docstrings
	$(BIN)/python docs/build.py

page: .venv/test ## build the lesson's page again
	$(BIN)/python -m stepfit.lesson.page.build

notebooks: .venv/test ## make the exercise and solution notebooks again
	$(BIN)/python -m stepfit.lesson.notebooks.build

clean: ## remove the environment and what was built
	rm -rf .venv build

# Each stamp is an environment with the extra of its name; it is made again when the versions
# or the sources of the compiled kernel change.
.venv/%: pyproject.toml constraints.txt $(wildcard native/*.cpp native/*.h native/CMakeLists.txt)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	touch $@

.PHONY: help lesson test explore bench check sanitize format docs page notebooks clean
