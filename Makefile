# Everything a developer runs. `make` alone prints this list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m netinv_lightning.run
STAMP := $(VENV)/.installed
# `make test CONSTRAINTS=` takes the newest versions that pyproject.toml allows.
CONSTRAINTS ?= --constraint constraints.txt

ZOO := mnist_cnn fashion_mnist_cnn svhn_head_cnn cifar10_cnn \
       mnist_mlp mnist_resnet mnist_strided mnist_vit fashion_mnist_mlp fashion_mnist_resnet \
       svhn_head_resnet svhn_head_vit cifar10_resnet cifar10_vit \
       digits_binarised mnist14_binarised wine_mlp wine_linear \
       cylinder_bell_funnel_fcn cylinder_bell_funnel_fcn4 cylinder_bell_funnel_mlp

# Python compiles a module once and keeps the result, also where the environment forbids it: the
# libraries are installed uncompiled, and each of the tests' processes would compile them again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: sat-coverage help quickstart test test-lowest lint docs wheel-check bench gpu-check precision zoo results natural meaning without-batch-norm any-classifier conditioning loss-ablation interpretability ood reconstruction training-size informed zoo-audit membership inverted-data methods schematics retry dashboard sync clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

install: $(STAMP)  ## make the environment in .venv

quickstart: $(STAMP)  ## invert the MNIST classifier of the zoo, without data or network
	$(RUN) +experiment=quickstart

test: $(STAMP)  ## run the tests; those on real data need NETINV_DATA
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

# The extras that tests use, at the oldest versions that pyproject.toml allows.
LOWEST := .venv-lowest
LOWEST_EXTRAS := timm,onnx,hf,tensorboard,sweep,slurm,optuna,dashboard,explore,methods
CORE_TESTS := tests/config tests/metrics tests/figures tests/dashboard tests/test_api.py \
  tests/test_cli.py tests/test_run.py tests/inversion/test_losses.py tests/inversion/test_conditioning.py \
  tests/inversion/test_generator.py tests/inversion/test_objective.py \
  tests/classifiers/test_published.py tests/classifiers/test_features.py \
  tests/classifiers/test_checkpoints.py tests/classifiers/test_folding.py tests/ood/test_detectors.py \
  tests/interpretability/test_rules.py tests/interpretability/test_clusters.py \
  tests/tracking/test_tracking.py tests/html_report/test_page.py tests/data/test_datasets.py \
  tests/explorer/test_page_parts.py tests/runs/test_sweep.py tests/runs/test_resumed_training.py \
  tests/training/test_deferred_torchmetrics.py

test-lowest: $(STAMP)  ## run the core of the tests with the oldest versions that are allowed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  --editable '.[$(LOWEST_EXTRAS)]' pytest==8.4.0 hypothesis==6.130.0 playwright==1.60.0
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -W ignore::DeprecationWarning \
	  -W ignore::FutureWarning $(CORE_TESTS)  # of old versions beside new ones

lint: $(STAMP)  ## format and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## build the site of the documentation in build/site, without network access
	$(BIN)/python docs/site_pages.py build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel-check: $(STAMP)  ## sdist, wheel from it, fresh environment, run from another folder
	$(BIN)/python tests/wheel_check.py

bench: $(STAMP)  ## speed, as ratios of one run
	$(BIN)/python -m experiments.bench.bench

gpu-check: $(STAMP)  ## run the core on a CUDA GPU in every precision, 6 minutes at most
	$(BIN)/python -m experiments.gpu_check.run

precision: $(STAMP)  ## inversion in bfloat16 against float32, 3 settings x 3 seeds
	$(BIN)/python -m experiments.precision.run

zoo: $(STAMP)  ## train the zoo's classifiers again (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.any_classifier.data_sets data
	for name in $(ZOO); do $(RUN) +experiment=zoo/$$name application.overwrite=true || exit 1; done

results: $(STAMP)  ## the inversion accuracies of experiments/inversion_accuracy, 4 data sets x 3 seeds
	$(BIN)/python -m experiments.inversion_accuracy.run

natural: $(STAMP)  ## the papers' objective against loss=natural, 4 data sets x 3 seeds, and without each part
	$(BIN)/python -m experiments.natural_images.run

meaning: $(STAMP)  ## how diverse and useful inverted MNIST images are, judged by networks that chose nothing, 3 seeds
	$(BIN)/python -m experiments.meaning.run

without-batch-norm: $(STAMP)  ## loss=natural on a transformer without BatchNorm, 8 objectives x 3 seeds
	$(BIN)/python -m experiments.without_batch_norm.run

any-classifier: $(STAMP)  ## the recipes for signals, tables and medical files, 3 seeds (needs NETINV_DATA)
	$(BIN)/python -m experiments.any_classifier.run

conditioning: $(STAMP)  ## label, vector, matrix and vector-matrix conditioning compared, 2 data sets x 3 seeds
	$(RUN) +experiment=conditioning

loss-ablation: $(STAMP)  ## each loss term left out, alone and reweighted; dropout and temperature, 3 seeds (hours)
	$(BIN)/python -m experiments.loss_ablation.run

interpretability: $(STAMP)  ## what the inverted features show, 4 data sets x 3 seeds, and clusters over the cosine weight
	$(BIN)/python -m experiments.interpretability.run

ood: $(STAMP)  ## out-of-distribution detection, the papers' pairs and more, 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.ood.run

sat-coverage: $(STAMP)  ## what share of the solutions of a binarised network a generator covers, 3 seeds
	$(BIN)/python -m experiments.sat_coverage.run

reconstruction: $(STAMP)  ## what classifiers give away: objectives, sizes, factors, 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.reconstruction.run

training-size: $(STAMP)  ## Figure 5, the size curve, MLP against CNN, 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.training_size.run

informed: $(STAMP)  ## missing training images from the weights, by who knows the others, 3 seeds (needs NETINV_DATA)
	$(BIN)/python -m experiments.informed.run

zoo-audit: $(STAMP)  ## the audit of every classifier of the zoo, 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.zoo_audit.run

membership: $(STAMP)  ## membership of MNIST classifiers by loss and shadow networks (needs NETINV_DATA)
	$(BIN)/python -m experiments.membership.run

inverted-data: $(STAMP)  ## students without data, counterfeits, fine-tuning, 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.inverted_data.run

methods: $(STAMP)  ## all methods of inversion at equal cost, 4 classifiers x 3 seeds (needs NETINV_DATA; hours)
	$(BIN)/python -m experiments.methods.run

schematics: $(STAMP)  ## Figures 1 and 4 of the paper, with real parts
	$(BIN)/python -m experiments.schematics.run

retry: $(STAMP)  ## run what is not done of a sweep: make retry SWEEP=sweeps/mnist_invert/STAMP
	$(RUN) retry $(SWEEP)

dashboard: $(STAMP)  ## publish the W&B dashboard: make dashboard ENTITY=me PROJECT=netinv
	$(RUN) dashboard $(if $(ENTITY),--entity $(ENTITY)) $(if $(PROJECT),--project $(PROJECT))

sync: $(STAMP)  ## send all offline W&B runs below runs and sweeps
	@find runs sweeps -type d -name 'offline-run-*' -prune 2>/dev/null | while read -r run; do $(BIN)/wandb sync "$$run" || exit 1; done

clean:  ## remove environment, caches and builds; runs stay
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
