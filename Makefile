# The only commands. Each does its own set-up; CI calls the same ones.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# All packages but torch, with hashes; python .ci/locks.py writes it
LOCKED := .ci/locked.txt
# The version that the export is tested with. Which build of it there is depends on the index, so no hash is locked.
TORCH := torch==2.13.0
CLIP_RETRIEVAL := clip-retrieval==2.45.0
# What Python compiles at the first import is kept, also where the caller has every process compile it anew.
export PYTHONDONTWRITEBYTECODE :=
SIDE_BY_SIDE = --numprocesses $(if $(CLIPSERVE_TESTS),3,4) --dist loadfile --no-loadscope-reorder

.PHONY: setup demo serve test test-ci test-all check types types-of-windows types-of-macos style documents package docs notebooks bench coverage load soak chaos sbom clean

setup: $(READY)

# Each package is compared with its hash, so pip resolves nothing. Nothing is compiled ahead: most of what is installed is never imported.
$(READY): pyproject.toml $(LOCKED) serve/clip_inside_triton/requirements.txt $(wildcard serve/clip_inside_triton/start/*.py)
	@echo "installing into $(VENV): some minutes"
	$(PYTHON) -m venv $(VENV)
	# Two halves at once, on two cores, since no package knows of another; then PyTorch, with what its CUDA build needs, beside Triton's own
	awk '/^[^ #]/ { half = !half } { print > ("$(VENV)/locked-" (half + 0)) }' $(LOCKED)
	$(PIP) --no-deps --require-hashes --requirement $(VENV)/locked-0 & half=$$!; \
	$(PIP) --no-deps --require-hashes --requirement $(VENV)/locked-1; other=$$?; wait $$half && exit $$other
	$(PIP) --no-deps --no-build-isolation --editable .
	$(PIP) $(TORCH) & torch=$$!; $(BIN)/clipserve serve --install; triton=$$?; wait $$torch && exit $$triton
	# Its client is tested against the search sidecar; its own requirements (an older numpy, torchvision, …) stay out.
	$(PIP) --no-deps --upgrade --target $(VENV)/lib/clip-retrieval $(CLIP_RETRIEVAL)
	touch $@

# The main job on the bundled checkpoint: export, serve, add to a search sidecar, search. In a terminal the page stays up until Ctrl-C.
demo: setup
	$(BIN)/python examples/emoji/demo.py

# Serve what is published, e.g. make serve ARGS='--grpc-port 9001'
serve: setup
	$(BIN)/clipserve serve $(ARGS)

# Four processes by file, on two cores: many tests wait, of the long ones fewer; with ARGS one, e.g. make test ARGS='tests/test_tokens.py -k emoji'
test: setup
	$(BIN)/python -m pytest $(or $(ARGS),$(SIDE_BY_SIDE))

# Long tests too, as CI does
test-ci: export CLIPSERVE_TESTS := long
test-ci: setup
	$(BIN)/python -m pytest $(or $(ARGS),$(SIDE_BY_SIDE))

# Slow tests too, all variants timed as users time them, and more cases of each kind
test-all: export CLIPSERVE_TESTS := all
test-all: setup
	$(BIN)/python -m pytest $(or $(ARGS),$(SIDE_BY_SIDE))

# Two parts at once: types take as long as all the rest
check: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target types types-of-windows types-of-macos style documents package

types:
	$(BIN)/mypy

# Each platform has a cache of its own: in one they would put each other's entries aside
types-of-windows:
	$(BIN)/mypy --cache-dir .mypy_cache/windows --package clip_client --platform win32

types-of-macos:
	$(BIN)/mypy --cache-dir .mypy_cache/macos --package clip_client --package clip_search --package clip_embed --platform darwin

style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python .ci/house_rules.py

documents:
	$(BIN)/python .ci/links.py
	$(BIN)/python .ci/figures.py --check
	$(BIN)/python .ci/reference.py --check
	$(BIN)/python .ci/build_site.py
	$(BIN)/python .ci/release_notes.py Unreleased > /dev/null

package:
	$(BIN)/python .ci/locks.py --check
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/python .ci/distribution.py

# Fill in figures, write reference pages, build the site; make docs ARGS=--serve shows it at http://127.0.0.1:8010
docs: setup
	$(BIN)/python .ci/figures.py
	$(BIN)/python .ci/reference.py
	$(BIN)/python .ci/build_site.py $(ARGS)

# Run examples/notebooks; pages and pictures go to artifacts/notebooks, e.g. make notebooks ARGS=2-semantic
notebooks: setup
	$(BIN)/python .ci/notebooks.py $(ARGS)

# Every table of docs/benchmarks.md, e.g. make bench ARGS='--photos FOLDER --peers FOLDER'
bench: setup
	$(BIN)/python bench/all.py $(ARGS)

# docs/coverage.md: hub ids behind a stand-in of the hub, types of transformers, configurations of open_clip, which is installed on first use;
# e.g. make coverage ARGS='--only openai/ siglip'
coverage: setup
	$(BIN)/python coverage/all.py $(ARGS)

# A minute of load on the running server; the report goes to artifacts/load, e.g. make load ARGS='--users 32 --corrupt 0.01 ImageUser'
load: setup
	$(BIN)/locust -f loadtest/locustfile.py --headless --only-summary --users 16 --spawn-rate 16 --run-time 1m $(ARGS)

# Half an hour of load on servers of its own: what grows? The report goes to artifacts/soak; e.g. make soak ARGS='--minutes 3'
soak: setup
	$(BIN)/python bench/soak.py --no-page $(ARGS)

# Five minutes of faults on real servers under load; the report goes to artifacts/chaos, e.g. make chaos ARGS='--minutes 60 --seed 7'
chaos: setup
	$(BIN)/python -m chaos $(ARGS)

# What a release is made of, as CycloneDX: artifacts/sbom has a file for each lock
sbom: setup
	$(BIN)/python .ci/sbom.py $(ARGS)

clean:
	rm -rf $(VENV) artifacts
