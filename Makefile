# Seaway's commands; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first that runs: a version manager's shim may exist for a Python that is not installed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' >/dev/null 2>&1 && echo $$p && break; done)
DATA ?= strokes
ARGS ?=
HOST ?=
PORT ?= 8501
VENV := .venv
BIN := $(VENV)/bin
TRY := .venv-try
DOCS := .venv-docs
STAGE ?=
REGISTRY ?= seaway
LOCKS := $(wildcard components/*/requirements.in)

.PHONY: help try setup demo test coverage wheel verify-wheel verify-release check fix docs golden compile submit images
.PHONY: kind-up kind-down e2e e2e-kfp lock example bench bench-article clean

SUPPORTED := 3.11 3.12 3.13
SAY_VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
PYTHON_VERSION := $(shell $(PYTHON) $(SAY_VERSION) 2>/dev/null)
NEED_PYTHON = $(if $(filter $(SUPPORTED),$(PYTHON_VERSION)),,$(error Seaway needs Python 3.11, 3.12 or 3.13, and \
    "$(PYTHON)" is $(or $(PYTHON_VERSION),none): make $(1) PYTHON=/path/to/python3.13))

# One stamp a Python version; an environment of another version, or without a pip that runs because its making was
# interrupted, is removed, so no environment outlives its Python.
READY := $(VENV)/.ready-$(PYTHON_VERSION)
TRY_READY := $(TRY)/.ready-$(PYTHON_VERSION)
DOCS_READY := $(DOCS)/.ready-$(PYTHON_VERSION)
define ENVIRONMENT
@test "$$($(1)/bin/python $(SAY_VERSION) 2>/dev/null)" = $(PYTHON_VERSION) && \
    $(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
    test ! -e $(1) || echo "$(1) is incomplete or not for Python $(PYTHON_VERSION): making it again"; \
    rm -rf $(1) && $(PYTHON) -m venv $(1); }
endef

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

try: $(TRY_READY)  ## Serve the example model and its drawing page, with minimal dependencies: make try [PORT=8502]
	@echo "A page to draw on, until Ctrl-C (on another port: make try PORT=8502):"
	@$(TRY)/bin/python -m seaway.serve --model-repository seaway/example --backend onnx --port $(PORT)

# Installed by PYTHON's own pip, if it has one that can, and without compiling bytecode: half the time.
$(TRY_READY): requirements/try.txt
	$(call NEED_PYTHON,try)
	@echo "Downloading 60 MB into $(TRY), once; it will take 190 MB of disk"
	@rm -rf $(TRY) && $(PYTHON) -m venv --without-pip $(TRY)
	@pip="$(PYTHON) -m pip --python $(TRY)/bin/python"; $$pip --version >/dev/null 2>&1 || \
	    { $(TRY)/bin/python -m ensurepip && pip="$(TRY)/bin/python -m pip"; } && \
	    $$pip install --no-deps --no-compile --disable-pip-version-check --require-hashes -r requirements/try.txt
	@touch $@

setup: $(READY)  ## Install the locked requirements into .venv

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml
	$(call NEED_PYTHON,setup)
	$(call ENVIRONMENT,$(VENV))
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## Run the whole pipeline on this machine: make demo [DATA=idx:DIR] [ARGS="--net mlp"]
	$(BIN)/seaway run --data "$(DATA)" $(ARGS)

test: setup  ## Run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

coverage: setup  ## Run all tests with line coverage per module: .coverage/report.txt
	mkdir -p .coverage && $(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile $(ARGS)
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report | tee .coverage/report.txt

wheel: setup  ## Build the sdist and the wheel into dist/
	$(BIN)/python tests/packaging/installs.py --build dist

verify-wheel: setup  ## Test the wheel in empty environments: make verify-wheel ARGS="default convert --python 3.12"
	$(BIN)/python tests/packaging/installs.py $(ARGS)

# Checks that passed at this commit are in the log and not repeated. Needs Python 3.11, 3.12 and 3.13, and 12 GB of disk.
verify-release: setup  ## Test the wheel on each Python, and the documented commands; slow; rerun to resume
	$(BIN)/python tests/packaging/installs.py default convert --log .seaway/verify-release/log.jsonl
	$(BIN)/python tests/packaging/installs.py ship --python 3.11 --python 3.13 --log .seaway/verify-release/log.jsonl
	$(BIN)/python tests/packaging/try_onnx_tf.py
	$(BIN)/python tests/packaging/commands.py --log .seaway/verify-release/log.jsonl
	set -o pipefail; $(BIN)/python -m pytest tests/seaway/serve/test_page.py -k pasted | tee /dev/stderr | grep " passed" >/dev/null
	$(BIN)/python tests/packaging/new_user.py

check: setup  ## Check lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup  ## Fix lint and formatting automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_READY)  ## Build the documentation into site/, every link checked
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS_READY): requirements/docs.txt
	$(call NEED_PYTHON,docs)
	$(call ENVIRONMENT,$(DOCS))
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

golden: setup  ## Regenerate the expected IR, the manifests' tags and (with kubectl) rendered manifests, after an intended change
	for name in characters ship; do $(BIN)/seaway compile tests/golden/$$name.yaml --pipeline $$name || exit 1; done
	$(BIN)/python -m seaway.pipeline.manifests $$(command -v kubectl >/dev/null && echo --golden tests/golden/manifests)

compile: setup  ## Compile the pipeline to KFP IR, characters.yaml: make compile [REGISTRY=ghcr.io/example]
	$(BIN)/seaway compile characters.yaml --registry "$(REGISTRY)"

submit: setup  ## Submit the pipeline to Kubeflow: make submit HOST=http://127.0.0.1:8080 [REGISTRY=ghcr.io/example] [ARGS=--wait]
	$(BIN)/seaway submit --host "$(HOST)" --registry "$(REGISTRY)" $(ARGS)

# Needs Docker, but no .venv. A tag is derived from the image's contents: an image that exists is not built again.
images:  ## Build an image for each stage: make images [STAGE=serve] [REGISTRY=ghcr.io/example] [ARGS="--build-arg BASE=..."]
	$(call NEED_PYTHON,images)
	@references=$$($(PYTHON) -m seaway.pipeline.images --registry "$(REGISTRY)" $(STAGE)) || exit 1; \
	for reference in $$references; do \
	    if docker image inspect $$reference >/dev/null 2>&1; then echo "$$reference exists"; continue; fi; \
	    stage=$${reference##*/}; \
	    DOCKER_BUILDKIT=1 docker build -f components/Dockerfile $(ARGS) -t $$reference \
	        --build-arg STAGE=$${stage%%:*} \
	        --build-arg VERSION=$$(sed -n 's/^VERSION = "\(.*\)"/\1/p' seaway/version.py) \
	        --build-arg REVISION=$$(git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null || echo unknown) \
	        . || exit 1; \
	done

kind-up: setup  ## Create a kind cluster that serves an example model at http://127.0.0.1:30080/
	@for program in docker kind kubectl; do command -v $$program >/dev/null || \
	    { echo "make kind-up needs $$program on PATH"; exit 1; }; done
	mkdir -m 777 -p .kind-models
	kind get clusters | grep -qx seaway || \
	    kind create cluster --config manifests/kind.yaml $${KIND_NODE_IMAGE:+--image "$$KIND_NODE_IMAGE"} --wait 180s
	$(MAKE) images STAGE=serve REGISTRY=seaway
	kind load docker-image $$($(BIN)/python -m seaway.pipeline.images serve) --name seaway
	kubectl --context kind-seaway apply -f manifests/namespace.yaml
	kubectl --context kind-seaway apply -k manifests/overlays/kind
	kubectl --context kind-seaway -n seaway rollout status deployment/seaway --timeout=300s

kind-down:  ## Delete the kind cluster; .kind-models is kept
	kind delete cluster --name seaway

e2e: setup  ## Run the tests on kind: make e2e [ARGS=--keep-cluster]
	$(BIN)/python -m pytest tests/e2e $(ARGS)

e2e-kfp: setup  ## Test a small run on a real Kubeflow: make e2e-kfp HOST=http://127.0.0.1:8080
	$(BIN)/python -m pytest tests/e2e/test_kubeflow.py --kubeflow "$(HOST)" $(ARGS)

bench: setup  ## Measure the accuracy and cost of training: make bench ARGS="--source idx:DIR"
	$(BIN)/python -m benchmarks.training.bars $(ARGS)

bench-article: setup  ## Benchmark every protocol of Seaway against a Flask server: make bench-article [ARGS="--seconds 10"]
	$(BIN)/python -m benchmarks.article $(ARGS)

# One lock for all Pythons and systems, except the images', which are for their own Python. All use dev.txt's versions, and so
# do the constraints that users install seaway[all] with. KFP's executor needs none of kfp's requirements. A lock names what it
# includes of another exactly as that one does: images whose locks are equal share the layer.
RESOLVE := $(BIN)/uv pip compile --quiet --no-header
FOR_ALL := $(RESOLVE) --generate-hashes --universal --python-version $(firstword $(SUPPORTED))
FOR_IMAGES := $(RESOLVE) --generate-hashes --python-version 3.11 -c requirements/dev.txt
lock: setup  ## Regenerate the locks of requirements/ and components/, and the constraints of pyproject.toml's extras
	$(FOR_ALL) --override requirements/overrides.txt requirements/dev.in -o requirements/dev.txt
	$(FOR_ALL) --no-deps -c requirements/dev.txt requirements/try.in -o requirements/try.txt
	$(FOR_ALL) -c requirements/dev.txt requirements/docs.in -o requirements/docs.txt
	for lock in $(LOCKS); do \
	    $(FOR_IMAGES) --override requirements/overrides.txt $$lock -o $${lock%.in}.txt || exit 1; done
	sed -i 's|-r components/[a-z-]*/\.\./|-r components/|' $(LOCKS:.in=.txt)
	$(FOR_IMAGES) --no-deps components/kfp.in -o components/kfp.txt
	awk '/^uv==/ { own = 1 } /^[a-z]/ && !/^uv==/ { own = 0 } own && !/#/' requirements/dev.txt > requirements/uv.txt
	set -o pipefail; for version in $(SUPPORTED); do \
	    $(RESOLVE) --no-annotate --universal --python-version $$version --all-extras -c requirements/dev.txt pyproject.toml | \
	    sed 's/ *;.*//' > constraints-$$version.txt || exit 1; done

example: setup  ## Regenerate the bundled example from strokes: seaway/example/characters
	$(BIN)/python -m examples.make_characters

clean:  ## Remove run outputs and caches, but not the environment
	rm -rf .seaway site .pytest_cache .mypy_cache .ruff_cache .hypothesis
