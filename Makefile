# Everything runs in .venv, made on first use. PYTHON chooses its interpreter.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# What runs on every backend.
EVERYWHERE := tests/layers tests/ops/test_moments.py tests/ops/test_spatial.py \
	tests/training/test_recalibration.py tests/training/test_radius.py \
	tests/training/test_optimizers.py tests/training/test_schedules.py \
	tests/training/test_crossentropy.py tests/training/test_keras_loop.py \
	tests/training/test_progress.py tests/training/test_monitor.py \
	tests/training/test_honest.py

.PHONY: quickstart test check lint docs docs-serve examples newest bench compiled \
	release-check clean

# What a user installs, and what a contributor adds.
.venv/user: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

.venv/contributor: .venv/user
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

quickstart: .venv/user
	$(BIN)/keras-en quickstart

# Every test; `make check`: all but those marked slow, and a part on other backends. JAX,
# and torch where it is installed, in processes of their own.
check: SELECTED := -m 'not slow'
check: EVERYWHERE := tests/layers/test_oracle.py tests/ops/test_moments.py \
	tests/ops/test_spatial.py tests/training/test_keras_loop.py \
	tests/training/test_optimizers.py
test check: .venv/contributor
	$(BIN)/python -m pytest -n $(WORKERS) $(SELECTED)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n $(WORKERS) $(SELECTED) $(EVERYWHERE) \
		tests/export/onnx/test_jax.py tests/ops/test_kernels.py
	@if $(BIN)/python -c 'import torch' 2> /dev/null; then set -x; \
		KERAS_BACKEND=torch $(BIN)/python -m pytest -n $(WORKERS) $(SELECTED) \
			$(EVERYWHERE) tests/surgery/test_network.py; \
	else echo "torch: not run here, not installed"; fi

# mypy reads links to the sources, laid as they are installed: with models/ and export/
# inside keras_en.
lint: .venv/contributor
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && mkdir -p build/types/keras_en
	ln -s $(CURDIR)/keras_en/* $(CURDIR)/models $(CURDIR)/export build/types/keras_en
	$(BIN)/mypy

.venv/docs: .venv/contributor
	$(BIN)/python -m pip install --quiet --editable '.[all,dev,docs]'
	touch $@

# The site, build/site: a page that is missing or a link that leads nowhere ends it.
SITE := TF_CPP_MIN_LOG_LEVEL=3 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
docs: .venv/docs
	$(SITE) build --strict

# On http://127.0.0.1:8000.
docs-serve: .venv/docs
	$(SITE) serve

# Runs every example of pages and docstrings, and every notebook in a short form.
examples: .venv/contributor
	$(BIN)/python -m pytest tests/test_readme.py tests/test_public.py tests/examples

# The newest release of every dependency, for `make test` behind it.
newest: .venv/contributor
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--editable '.[all,dev]'
	$(BIN)/python -m pip list

bench: .venv/contributor
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python benchmarks/layer_speed.py --short
	KERAS_BACKEND=jax $(BIN)/python benchmarks/layer_speed.py --short
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python benchmarks/model_speed.py --short

# The compilers of XLA for GPU and TPU run without either; with them an environment
# takes 7 GB.
JAX := 0.10.2
build/compiled/ready:
	$(PYTHON) -m venv build/compiled
	build/compiled/bin/python -m pip install --quiet 'jax[tpu]==$(JAX)' \
		'jax-cuda12-plugin[with-cuda]==$(JAX)' 'jax-cuda12-pjrt==$(JAX)' \
		--editable .
	touch $@

compiled: build/compiled/ready
	KERAS_BACKEND=jax build/compiled/bin/python benchmarks/compiled.py

# PYTHONS and TESTS choose a part, see there.
release-check: .venv/contributor
	.ci/release

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache
