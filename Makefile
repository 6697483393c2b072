# Seaway's commands; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first that runs: a version manager's command may exist only to say that its Python is not installed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' >/dev/null 2>&1 && echo $$p && break; done)
DATA ?= strokes
ARGS ?=
HOST ?=
PORT ?= 8501
VENV := .venv
BIN := $(VENV)/bin
TRY := .venv-try
STAGE ?=
REGISTRY ?= seaway
LOCKS := $(wildcard components/*/requirements.in)

.PHONY: help try setup demo test wheel verify-release check fix golden compile submit images kind-up kind-down e2e e2e-kfp lock example bench bench-article clean

SUPPORTED := 3.11 3.12 3.13
SAY_VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
PYTHON_VERSION := $(shell $(PYTHON) $(SAY_VERSION) 2>/dev/null)
NEED_PYTHON = $(if $(filter $(SUPPORTED),$(PYTHON_VERSION)),,$(error Seaway needs Python 3.11, 3.12 or 3.13, and \
    "$(PYTHON)" is $(or $(PYTHON_VERSION),none): make $(1) PYTHON=/path/to/python3.13))

# A stamp for each version, and an environment of another version is removed: so no environment outlives its Python.
READY := $(VENV)/.ready-$(PYTHON_VERSION)
TRY_READY := $(TRY)/.ready-$(PYTHON_VERSION)
define ENVIRONMENT
@test "$$($(1)/bin/python $(SAY_VERSION) 2>/dev/null)" = $(PYTHON_VERSION) || { \
    test ! -e $(1) || echo "$(1) is not of Python $(PYTHON_VERSION): it is made anew"; \
    rm -rf $(1) && $(PYTHON) -m venv $(1); }
endef

help:  ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

try: $(TRY_READY)  ## A page to draw on, with a small environment of its own: make try [PORT=8502]
	$(TRY)/bin/python -m seaway.cli.main serve --example --port $(PORT)

# Not compiled ahead, which would take longer and more room.
$(TRY_READY): requirements/try.txt
	$(call NEED_PYTHON,try)
	$(call ENVIRONMENT,$(TRY))
	$(TRY)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements/try.txt
	@touch $@

setup: $(READY)  ## An environment of its own in .venv, from the locked requirements

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml
	$(call NEED_PYTHON,setup)
	$(call ENVIRONMENT,$(VENV))
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## The whole way on this machine: make demo [DATA=idx:DIR] [ARGS="--net mlp"]
	$(BIN)/seaway run --data "$(DATA)" $(ARGS)

test: setup  ## All tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

wheel: setup  ## The sdist, and the wheel that is built from it: dist/
	$(BIN)/python tests/packaging/installs.py --build dist

# What passed at this commit is in the log, and is not done again. Needs 3.11, 3.12 and 3.13; 12 GB of disk.
verify-release: setup  ## Long: the wheel in empty environments of each Python; resumed where it ended
	$(BIN)/python tests/packaging/installs.py default convert --log .seaway/verify-release/log.jsonl
	$(BIN)/python tests/packaging/installs.py ship --python 3.11 --python 3.13 --log .seaway/verify-release/log.jsonl
	$(BIN)/python tests/packaging/try_onnx_tf.py

check: setup  ## Lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup  ## Mend what lint and format can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: setup  ## Write the golden IR, the manifests' tags and (with kubectl) what they come to, after a wanted change
	for name in characters ship; do $(BIN)/seaway compile tests/golden/$$name.yaml --pipeline $$name || exit 1; done
	$(BIN)/python -m seaway.pipeline.manifests $$(command -v kubectl >/dev/null && echo --golden tests/golden/manifests)

compile: setup  ## The pipeline as KFP IR, characters.yaml: make compile [REGISTRY=ghcr.io/example]
	$(BIN)/seaway compile characters.yaml --registry "$(REGISTRY)"

submit: setup  ## The pipeline to Kubeflow: make submit HOST=http://127.0.0.1:8080 [REGISTRY=ghcr.io/example] [ARGS=--wait]
	$(BIN)/seaway submit --host "$(HOST)" --registry "$(REGISTRY)" $(ARGS)

# Needs Docker, not this machine's environment. A tag is made of what is in the image: one that is there stays as it is.
images:  ## An image for each stage: make images [STAGE=serve] [REGISTRY=ghcr.io/example] [ARGS="--build-arg BASE=..."]
	$(call NEED_PYTHON,images)
	@references=$$($(PYTHON) -m seaway.pipeline.images --registry "$(REGISTRY)" $(STAGE)) || exit 1; \
	for reference in $$references; do \
	    if docker image inspect $$reference >/dev/null 2>&1; then echo "$$reference is there"; continue; fi; \
	    stage=$${reference##*/}; \
	    DOCKER_BUILDKIT=1 docker build -f components/Dockerfile $(ARGS) -t $$reference \
	        --build-arg STAGE=$${stage%%:*} \
	        --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	        --build-arg REVISION=$$(git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null || echo unknown) \
	        . || exit 1; \
	done

kind-up: setup  ## A kind cluster with our serving image and an example model at http://127.0.0.1:30080/
	mkdir -m 777 -p .kind-models
	kind get clusters | grep -qx seaway || \
	    kind create cluster --config manifests/kind.yaml $${KIND_NODE_IMAGE:+--image "$$KIND_NODE_IMAGE"} --wait 180s
	$(MAKE) images STAGE=serve
	kind load docker-image $$($(BIN)/python -m seaway.pipeline.images serve) --name seaway
	kubectl --context kind-seaway apply -f manifests/namespace.yaml
	kubectl --context kind-seaway apply -k manifests/overlays/kind
	kubectl --context kind-seaway -n seaway rollout status deployment/seaway --timeout=300s

kind-down:  ## Delete that cluster; .kind-models stays
	kind delete cluster --name seaway

e2e: setup  ## The tests on kind: make e2e [ARGS=--keep-cluster]
	$(BIN)/python -m pytest tests/e2e $(ARGS)

e2e-kfp: setup  ## A small run on a real Kubeflow: make e2e-kfp HOST=http://127.0.0.1:8080
	$(BIN)/python -m pytest tests/e2e/test_kubeflow.py --kubeflow "$(HOST)" $(ARGS)

bench: setup  ## The measured bars of training: make bench ARGS="--source idx:DIR"
	$(BIN)/python -m benchmarks.training.bars $(ARGS)

bench-article: setup  ## Flask and every protocol of ours, side by side: make bench-article [ARGS="--seconds 10"]
	$(BIN)/python -m benchmarks.article $(ARGS)

# One lock for all Pythons and systems, but the images', which are for their own Python. All have dev.txt's versions, and so
# have the constraints that users install seaway[all] with. KFP's executor needs none of what kfp requires. What one lock
# includes of another is named alike in both: images whose locks are equal share the layer.
RESOLVE := $(BIN)/uv pip compile --quiet --no-header
FOR_ALL := $(RESOLVE) --generate-hashes --universal --python-version $(firstword $(SUPPORTED))
FOR_IMAGES := $(RESOLVE) --generate-hashes --python-version 3.11 -c requirements/dev.txt
lock: setup  ## Lock requirements/*.in and components/*/requirements.in anew, and the constraints of pyproject.toml's extras
	$(FOR_ALL) --override requirements/overrides.txt requirements/dev.in -o requirements/dev.txt
	$(FOR_ALL) -c requirements/dev.txt requirements/try.in -o requirements/try.txt
	for lock in $(LOCKS); do \
	    $(FOR_IMAGES) --override requirements/overrides.txt $$lock -o $${lock%.in}.txt || exit 1; done
	sed -i 's|-r components/[a-z-]*/\.\./|-r components/|' $(LOCKS:.in=.txt)
	$(FOR_IMAGES) --no-deps components/kfp.in -o components/kfp.txt
	awk '/^uv==/ { own = 1 } /^[a-z]/ && !/^uv==/ { own = 0 } own && !/#/' requirements/dev.txt > requirements/uv.txt
	set -o pipefail; for version in $(SUPPORTED); do \
	    $(RESOLVE) --no-annotate --universal --python-version $$version --all-extras -c requirements/dev.txt pyproject.toml | \
	    sed 's/ *;.*//' > constraints-$$version.txt || exit 1; done

example: setup  ## The bundled example anew, from strokes: seaway/example/characters
	$(BIN)/python -m examples.make_characters

clean:  ## Remove what runs left behind, but not the environment
	rm -rf .seaway .pytest_cache .mypy_cache .ruff_cache .hypothesis
