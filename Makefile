# make demo            build a small recogniser, optimize it, verify it, print the report, run it
# make test            everything that a change must pass; make lint, make types and make check are its parts
# make fuzz            the property tests, many more examples
# make conformance     ONNX's own backend tests, each optimized, and on the engine; real models on the engine where
#                      GRAPHOPT_ZOO and GRAPHOPT_ASR name folders of them
# make sanitize        the engine's tests under the address and undefined-behaviour sanitizers; SANITIZER=thread:
#                      those of several threads
# make bench-costs     time every operator in onnxruntime, write the targets' tables [ARGS="--times FILE"]
# make bench-runtime   graphopt's engine beside onnxruntime and OpenVINO [ARGS="--seconds 2 encoder ..."]
# make bench-kernels   matrix products beside onnxruntime's [ARGS="--rows 1 10 100"]
# make bench-quantize  [ASR=folder of a recogniser] [MODELS=folder] [ARGS="--limit 40 --only graphopt dynamic"]
# make bench-optimize  MODELS=folder [PEERS=counts.json] [ONLY="name ..."]
#
# The first run of a target makes its environment (network needed once); nothing else is installed by hand.

PYTHON ?= python3
VENV := .venv
LINT := .venv-lint
SOURCES := $(shell find graphopt passes kernels -name '*.py')
NATIVE := kernels/CMakeLists.txt $(shell find kernels -name '*.cpp' -o -name '*.h')
ROOT := $(CURDIR)
WORKERS ?= 2
comma := ,
SANITIZER_LIBRARIES = $(if $(findstring thread,$(SANITIZER)),tsan,asan ubsan) stdc++
# In the environment itself, so that the engine's objects are kept from one build to the next.
BUILD_TOOLS := "setuptools>=77" "cmake>=3.22" "nanobind>=2.4" "ninja>=1.11"

.PHONY: demo test lint types check fuzz conformance sanitize bench-costs bench-runtime bench-kernels bench-quantize bench-optimize clean

test: lint types check

demo: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.models.recogniser demo/recogniser.onnx
	$(VENV)/bin/graphopt optimize demo/recogniser.onnx -o demo/recogniser.opt.onnx --report demo/report.json
	$(VENV)/bin/graphopt bench demo/recogniser.opt.onnx --against onnxruntime --seconds 2

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# mypy and import-linter do not follow package_dir: they look at a regular install, from another folder.
types: $(LINT)/.package
	mkdir -p build/lint
	ln -sfn $(ROOT)/benchmarks build/lint/benchmarks
	cd build/lint && $(ROOT)/$(LINT)/bin/mypy --config-file $(ROOT)/pyproject.toml -p graphopt -p benchmarks
	cd build/lint && $(ROOT)/$(LINT)/bin/lint-imports --config $(ROOT)/pyproject.toml

check: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) -m "not slow and not fuzz and not conformance"

fuzz: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) -m "fuzz or (not slow and not conformance)" --hypothesis-profile=fuzz

conformance: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n $(WORKERS) tests/conformance tests/runtime/test_zoo.py

# The sanitizer's library comes before Python's; Python's own allocator would hide what is read beyond. What runs on one
# thread takes the thread sanitizer hours and tells it nothing: it runs what has several threads. numpy's products have
# threads of their own, which it can't see into: they get one.
SANITIZER ?= address,undefined
SANITIZED_TESTS = $(if $(findstring thread,$(SANITIZER)),$(addprefix tests/,runtime/test_concurrency.py runtime/test_plans.py \
	runtime/test_session.py lowering/test_caches.py lowering/test_control_flow.py lowering/test_sharing.py \
	lowering/test_winograd.py kernels/test_conv_winograd.py kernels/test_conv_direct.py kernels/test_gemm.py \
	kernels/test_attention.py),tests/kernels tests/lowering tests/runtime tests/conformance/test_engine.py)
SANITIZED := build/sanitize-$(firstword $(subst $(comma), ,$(SANITIZER)))
sanitize: $(VENV)/.installed
	PATH="$(ROOT)/$(VENV)/bin:$$PATH" cmake -S kernels -B $(SANITIZED) -G Ninja -DGRAPHOPT_ISAS=v3 \
		-DGRAPHOPT_SANITIZE=$(SANITIZER) -DPython_EXECUTABLE=$(ROOT)/$(VENV)/bin/python \
		-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(ROOT)/$(SANITIZED)/graphopt_kernels
	PATH="$(ROOT)/$(VENV)/bin:$$PATH" cmake --build $(SANITIZED)
	LD_PRELOAD="$(foreach name,$(SANITIZER_LIBRARIES),$(shell $(CXX) -print-file-name=lib$(name).so))" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		TSAN_OPTIONS=exitcode=66:suppressions=$(ROOT)/tests/sanitizers/thread.txt \
		PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 \
		GRAPHOPT_KERNELS=$(ROOT)/$(SANITIZED)/graphopt_kernels \
		$(VENV)/bin/python -m pytest -m "not conformance" $(SANITIZED_TESTS)

bench-costs: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.costs $(ARGS)

bench-runtime: $(VENV)/.bench
	$(VENV)/bin/python -m benchmarks.runtime $(ARGS)

bench-kernels: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.kernels $(ARGS)

bench-quantize: $(VENV)/.bench
	$(VENV)/bin/python -m benchmarks.quantize $(if $(ASR),--asr $(ASR)) $(if $(MODELS),--models $(MODELS)) $(ARGS)

bench-optimize: $(VENV)/.bench
	$(VENV)/bin/python -m benchmarks.optimize $(if $(MODELS),$(MODELS),$(error give MODELS=folder)) \
		$(if $(PEERS),--peers $(PEERS)) $(foreach name,$(ONLY),--only $(name)) $(ARGS)

clean:
	rm -rf $(VENV) $(LINT) build demo *.egg-info

$(VENV)/.installed: pyproject.toml setup.py $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(BUILD_TOOLS)
	PATH="$(ROOT)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable ".[dev]"
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

$(LINT)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(LINT)
	rm -rf build/lib build/bdist.*
	GRAPHOPT_NO_NATIVE=1 $(LINT)/bin/python -m pip install --quiet --disable-pip-version-check "setuptools>=77" ".[dev]"
	touch $@

# build/lib keeps modules that are gone from the tree, and would install them.
$(LINT)/.package: $(LINT)/.installed $(SOURCES)
	rm -rf build/lib build/bdist.*
	GRAPHOPT_NO_NATIVE=1 $(LINT)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --force-reinstall .
	touch $@
