# Everything this project does, in one place. "make" lists the targets.
GO     ?= go
PYTHON ?= python3

VENV  := .venv-test
PEERS := .venv-peers

.PHONY: help runtime runtime-cuda codecs peers build test lint demo generate clean check-go
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

runtime: check-go ## fetch the pinned runtime libraries into runtime/ (pip, once; offline afterwards)
	@$(GO) run ./internal/libs/fetch --out runtime --python "$(PYTHON)"

runtime-cuda: check-go ## fetch ONNX Runtime's build for CUDA into runtime/cuda/ (Linux, x86-64): see docs/gpu.md
	@$(GO) run ./internal/libs/fetch --cuda --out runtime/cuda --python "$(PYTHON)"

codecs: ## install CharLS and OpenJPEG, for JPEG-LS and JPEG 2000 (Debian, Ubuntu; as root)
	@sh cmd/mvmae-codec/build install

build: runtime ## build the programs into bin/, with what "codecs" installs where that is possible
	$(GO) build -trimpath -o bin/ ./cmd/...
	@sh cmd/mvmae-codec/build install || echo "mvmae-codec is built without: JPEG-LS and JPEG 2000 will be refused" >&2
	CC="$$($(GO) env CC)" sh cmd/mvmae-codec/build bin/mvmae-codec

# Where there is systemd Debian starts Orthanc as a service: "systemctl disable --now orthanc" ends that. The tests start their own.
peers: codecs $(PEERS)/ready ## install the programs and packages that tests compare with (Debian, Ubuntu; as root)
	@sh internal/libs/debian dcmtk libgdcm-tools orthanc orthanc-dicomweb curl python3-torch

# The peers are wanted, not needed: where they cannot be had their tests are skipped, unless MVMAE_REQUIRE_PEERS is 1.
test: lint runtime $(VENV)/ready ## run every check and test
	@$(MAKE) --no-print-directory --keep-going peers || [ "$$MVMAE_REQUIRE_PEERS" != 1 ]
	MVMAE_RUNTIME="$(CURDIR)/runtime" MVMAE_TEST_PYTHON="$(CURDIR)/$(VENV)/bin/python" \
		MVMAE_PEERS_PYTHON="$(CURDIR)/$(PEERS)/bin/python" $(GO) test -timeout 20m ./...

lint: check-go ## gofmt and go vet
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) && if [ -n "$$files" ]; then \
		echo "error: not formatted:" $$files >&2; echo "hint: run gofmt -w on them" >&2; exit 1; fi
	$(GO) vet ./...

demo: build ## synthetic studies to a classified DICOM study, some minutes on a laptop
	bin/mvmae-train demo --out demo

generate: check-go ## write the generated Go files anew
	$(GO) generate ./...

clean: ## delete all that make made
	rm -rf bin runtime demo $(VENV) $(PEERS)

# The Python packages that tests compare with; the programs themselves need no Python.
$(VENV)/ready: test/requirements.txt test/venv
	@sh test/venv "$(PYTHON)" $(VENV)

$(PEERS)/ready: test/peers/requirements.txt test/peers/tables.txt test/venv
	@sh test/venv "$(PYTHON)" $(PEERS) test/peers/requirements.txt test/peers/tables.txt

# "go version" inside the module also says whether this Go is new enough, or fetches one that is.
check-go:
	@$(GO) version >/dev/null || { echo "hint: install the Go that go.mod names, or a newer one" >&2; exit 1; }
	@cc=$$($(GO) env CC) && command -v $${cc%% *} >/dev/null || { \
		echo "error: no C compiler: $$cc not found" >&2; \
		echo "hint: install one (Debian and Ubuntu: apt-get install gcc libc6-dev; macOS: xcode-select --install)" >&2; exit 1; }
