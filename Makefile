# `make help` says what there is. Everything is built with Go alone; the servers for the tests come from npm (`make fetch`).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

GO ?= go
TEST ?=
ARGS ?=
FUZZ ?= .
FUZZTIME ?= 30s
BENCH ?= .
BENCHTIME ?= 1s
CASES ?= 100000
SEED ?= 1
RERUN ?=

BIN := .bin
comma := ,
WORKSPACE := $(shell sed -n 's|^[[:space:]]*\./||p' go.work)
MODULES := $(WORKSPACE) tools
# A workspace has no ./... of its own: every module is spelled out.
PACKAGES := $(WORKSPACE:%=./%/...)
GOLANGCI := $(abspath $(BIN)/golangci-lint)
GOTESTSUM := $(BIN)/gotestsum
LINT_CONFIG := --config $(abspath .golangci.yml)
LINT := $(GOLANGCI) run $(LINT_CONFIG) --allow-serial-runners
# A string that grows by a few words in a loop is not better with a strings.Builder.
FIX_FLAGS := -stringsbuilder=false
# ClickHouse reads its users once, when it starts: those of the accounts that tests act for, on the databases that tests take
# (services/internal/testenv/clickhouse.go). A ClickHouse that is named by the environment has its own secret.
TEST_USERS = dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	CGO_ENABLED=0 $(GO) build -o "$$dir/verdict" ./services/cmd/verdict; \
	"$$dir/verdict" keygen --signing-key "$$dir/key.pem" --trusted-keys "$$dir/keys.json" --clickhouse-secret "$$dir/secret" > /dev/null; \
	"$$dir/verdict" clickhouse-users --accounts 000000000000,111111111111,222222222222 --clickhouse-secret "$$dir/secret" \
		--databases "$$(printf 'verdict_test_%02d,' $$(seq 0 15) | sed 's/,$$//')" > "$$dir/users.xml"; \
	if [ -z "$${VERDICT_CLICKHOUSE_URL:-}" ]; then export VERDICT_CLICKHOUSE_SECRET="$$dir/secret"; fi
# A Postgres that is quick and forgets, and one that waits for the disk, as devservers has it when it is to keep the data.
DEVSERVERS = $(TEST_USERS); $(BIN)/devservers --ports free --clickhouse-users "$$dir/users.xml" --
DEVSERVERS_FSYNC = $(TEST_USERS); $(BIN)/devservers --data "$$dir/data" --ports free --clickhouse-users "$$dir/users.xml" --

# With RERUN=1 a test that fails runs once more, by itself, before it counts; what failed once is named at the end. It is for
# machines that others keep busy, and for a ClickHouse that ends under the tests: a developer wants to see the failure.
GO_TEST = $(if $(RERUN),$(GOTESTSUM) --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures 5 --rerun-fails-run-root-test \
	--rerun-fails-abort-on-data-race --rerun-fails-report $(BIN)/failed-once-$@ --packages "$(1)" -- $(2),$(GO) test $(2) $(1))

# $(call each-module,MODULES,COMMAND): COMMAND in the folder of each module, as if it were alone in the world.
each-module = @for module in $(1); do echo "$$module: $(2)"; (cd "$$module" && GOWORK=off $(2)); done

##@ Everyday

.PHONY: help
help: ## Say what can be made
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'TEST=PACKAGES narrows test and test-faults, ARGS=FLAGS goes to go test (and to doctor): make test TEST=./services/policy/... ARGS=-v'
	@echo 'RERUN=1 runs once more what failed, before it counts.'
	@echo 'FUZZ=REGEXP and BENCH=REGEXP choose, FUZZTIME=$(FUZZTIME) and BENCHTIME=$(BENCHTIME) say for how long.'
	@echo 'CASES=$(CASES) and SEED=$(SEED) say how many decisions cedar-wasm compares, and which.'

.PHONY: all
all: ## Lint, check what is generated, test
	$(MAKE) lint
	$(MAKE) check-generate
	$(MAKE) test

.PHONY: doctor
doctor: $(BIN)/devservers ## Say what this machine lacks; needs nothing but Go
	$(BIN)/devservers doctor $(ARGS)

.PHONY: fetch
fetch: $(BIN)/devservers ## Download Postgres and ClickHouse, once
	@$(BIN)/devservers fetch

.PHONY: dev-build
dev-build: ## Build the programs into .bin
	@echo 'build: the programs, into $(BIN); the first time takes a minute or two' >&2
	@CGO_ENABLED=0 $(GO) build -o $(BIN)/ ./services/cmd/...

.PHONY: clean
clean: ## Remove what was built; .data and the caches stay
	rm -rf $(BIN)

##@ See it work

# Where everything is kept that a run of Verdict on this machine leaves behind, and what it is.
DATA ?= .data
PORTS ?= fixed
DEV_DATA := keys keys.new callers.json users.xml nats nats-keys nats.log decision gateway issuer-key.pem $(foreach service,control decision audit gateway,$(service).log $(service).addr .$(service).addr-*)
data = $(or $(strip $(DATA)),$(error DATA is empty: name a folder))

# The keys come into being in one step, so that a start that is broken off leaves all or none of them. exec: devservers must be
# the child of make, to see it go.
.PHONY: dev
dev: $(BIN)/devservers fetch dev-build ## Run everything, with the refund example, until Ctrl-C
	@keys='$(data)/keys'; mkdir -p '$(data)'; \
	if [ ! -d "$$keys" ]; then \
		rm -rf "$$keys.new"; mkdir -m 700 "$$keys.new"; \
		$(BIN)/verdict keygen --signing-key "$$keys.new/signing-key.pem" --trusted-keys "$$keys.new/trusted-keys.json" \
			--clickhouse-secret "$$keys.new/clickhouse-secret" > /dev/null; \
		mv "$$keys.new" "$$keys"; \
	fi; \
	export VERDICT_SIGNING_KEY="$$keys/signing-key.pem" VERDICT_TRUSTED_KEYS="$$keys/trusted-keys.json" \
		VERDICT_CLICKHOUSE_SECRET="$$keys/clickhouse-secret"; \
	$(BIN)/verdict clickhouse-users > '$(data)/users.xml'; \
	exec $(BIN)/devservers --data '$(data)/servers' --ports $(PORTS) --clickhouse-users '$(data)/users.xml' -- \
		$(BIN)/verdict dev --data '$(data)'

.PHONY: reset
reset: $(BIN)/devservers ## Remove all that make dev has stored
	@[ -d '$(data)' ] || exit 0; \
	$(BIN)/devservers reset --data '$(data)/servers'; \
	(cd '$(data)' && rm -rf $(DEV_DATA)); \
	rmdir '$(data)' 2> /dev/null || echo '$(data) stays: there are files in it that are not from make dev' >&2

##@ Tests

.PHONY: test
test: $(BIN)/devservers $(GOTESTSUM) mcp-npm ## Run the tests, with a Postgres and a ClickHouse of their own
	@$(DEVSERVERS) $(call GO_TEST,$(or $(TEST),$(PACKAGES)),-race $(ARGS))
	$(if $(TEST),,cd tools && GOWORK=off $(GO) test $(ARGS) ./...)

# One package at a time, since each keeps a machine busy. The tests of the files *_faults_test.go, which have the build tag faults. They are found by name, so that those of
# the same package that `make test` runs are not run again.
.PHONY: test-faults
test-faults: $(BIN)/devservers $(GOTESTSUM) mcp-npm ## Run the tests in which things fail, which take longer
	@files=$$(find $(WORKSPACE) -name '*_faults_test.go'); \
	if [ -z "$$files" ]; then echo 'there is no *_faults_test.go yet'; exit 0; fi; \
	untagged=$$(grep -L '^//go:build faults' $$files || true); \
	if [ -n "$$untagged" ]; then echo "without the first line //go:build faults: $$untagged"; exit 1; fi; \
	names=$$(sed -nE 's/^func (Test[A-Za-z0-9_]+)\(.*/\1/p' $$files | sort -u | paste -sd '|'); \
	folders=$$(printf '%s\n' $$files | xargs -n1 dirname | sort -u | sed 's|^|./|'); \
	set -x; \
	$(DEVSERVERS_FSYNC) $(call GO_TEST,$(or $(TEST),$$folders),-race -tags faults -p 1 -timeout 20m -run "^($$names)$$" $(ARGS))

# An MCP client and an issuer that others wrote, for the tests of the gateway (services/internal/testenv/npm.go); their exact bytes
# are in tools/mcp-npm/package-lock.json. A program of Node finds its packages beside itself, so it is copied there.
MCP_NPM := $(BIN)/mcp-npm
export VERDICT_MCP_NPM := $(abspath $(MCP_NPM))

.PHONY: mcp-npm
mcp-npm: $(MCP_NPM)/node_modules/.package-lock.json $(MCP_NPM)/client.mjs $(MCP_NPM)/issuer.mjs ## Download the MCP client and the issuer that tests need, once

$(MCP_NPM)/%.mjs: tools/mcp-npm/%.mjs
	@mkdir -p $(MCP_NPM)
	@cp $< $@

$(MCP_NPM)/node_modules/.package-lock.json: tools/mcp-npm/package.json tools/mcp-npm/package-lock.json
	@mkdir -p $(MCP_NPM)
	@cp $^ $(MCP_NPM)/
	cd $(MCP_NPM) && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.package-lock.json

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME
	@targets=$$($(GO) test -list '^Fuzz' $(PACKAGES) | awk ' \
		/^Fuzz/ {names[n++] = $$1} /^ok/ {for (i = 0; i < n; i++) print $$2, names[i]; n = 0}'); \
	while read -r package name; do \
		if [ -z "$$name" ] || ! grep -qE '$(FUZZ)' <<< "$$name"; then continue; fi; \
		echo "$$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $(ARGS) "$$package" < /dev/null; \
	done <<< "$$targets"

# The official implementation is a package of npm; its exact bytes are in tools/cedar-wasm/package-lock.json.
CEDAR_WASM := $(BIN)/cedar-wasm

.PHONY: cedar-wasm
cedar-wasm: $(CEDAR_WASM)/node_modules/.package-lock.json ## Compare CASES random decisions with Cedar's own implementation
	@cp tools/cedar-wasm/oracle.mjs $(CEDAR_WASM)/
	VERDICT_CEDAR_WASM='$(abspath $(CEDAR_WASM))' VERDICT_CEDAR_CASES=$(CASES) VERDICT_CEDAR_SEED=$(SEED) \
		$(GO) test -tags cedarwasm -timeout 60m -count=1 -v -run '^TestOfficial' $(ARGS) ./services/snapshot

$(CEDAR_WASM)/node_modules/.package-lock.json: tools/cedar-wasm/package.json tools/cedar-wasm/package-lock.json
	@mkdir -p $(CEDAR_WASM)
	@cp $^ $(CEDAR_WASM)/
	cd $(CEDAR_WASM) && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.package-lock.json

.PHONY: bench
bench: $(BIN)/devservers ## Run the benchmarks
	@$(DEVSERVERS_FSYNC) $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(ARGS) $(or $(TEST),./services/...)

.PHONY: loadtest
loadtest: ## Put load on the decision node of make dev; CPU per request beside an empty handler
	cd loadtest && GOWORK=off $(GO) run . authorize --codec json,json-text,binary $(ARGS)

##@ Code

.PHONY: lint
lint: lint-go lint-proto tidy-check ## Look for faults, and for what is not in our style

.PHONY: lint-go
lint-go: $(GOLANGCI)
	cd tools/devservers && GOWORK=off $(GOLANGCI) fmt $(LINT_CONFIG) --diff .
	$(GOLANGCI) fmt $(LINT_CONFIG) --diff $(WORKSPACE)
	$(call each-module,$(MODULES),$(GO) build -o /dev/null ./...)
	$(call each-module,$(MODULES),$(GO) vet -tags faults$(comma)cedarwasm ./...)
	$(call each-module,$(MODULES),$(GO) fix $(FIX_FLAGS) -diff ./...)
	$(LINT) $(PACKAGES)
	cd tools && GOWORK=off $(LINT) ./...

.PHONY: lint-proto
lint-proto: $(BIN)/buf
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/buf breaking --against proto/baseline.binpb

# tools is left out: tidying it would load the tests of everything that the linters are made of. That its go.mod and
# go.sum name enough shows in every build.
.PHONY: tidy-check
tidy-check: ## Check that go.mod and go.sum are tidy
	$(call each-module,$(WORKSPACE),$(GO) mod tidy -diff)

.PHONY: fix
fix: $(GOLANGCI) $(BIN)/buf ## Repair what a program can repair
	$(call each-module,$(MODULES),$(GO) fix $(FIX_FLAGS) ./...)
	$(call each-module,$(WORKSPACE),$(GO) mod tidy)
	$(LINT) --fix $(PACKAGES) || true
	cd tools && GOWORK=off $(LINT) --fix ./... || true
	$(BIN)/buf format -w

##@ The contract

GENERATORS := $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-connect-go

.PHONY: generate
generate: $(GENERATORS) ## Write proto/gen anew from the .proto files
	$(BIN)/buf generate

# Into a folder of its own, so that it says the same in a tree with changes and alters nothing.
.PHONY: check-generate
check-generate: $(GENERATORS) ## Check that proto/gen is what the .proto files say
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BIN)/buf generate -o "$$fresh"; \
	if ! diff -r -u "$$fresh/proto/gen" proto/gen; then \
		echo 'proto/gen is not what the .proto files say: run `make generate` and commit the result'; exit 1; \
	fi

.PHONY: proto-baseline
proto-baseline: $(BIN)/buf ## Agree on the contract as it is now; buf breaking compares with it
	$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

##@ Tools

.PHONY: tools
tools: $(GENERATORS) $(GOLANGCI) $(GOTESTSUM) $(BIN)/devservers ## Build the tools into .bin

# Built anew when the pinned version, the sources or Go itself have changed. touch, since go build leaves the time of a
# program alone that is up to date.
build-tool = @echo 'build: $@' >&2; cd $(1) && GOWORK=off CGO_ENABLED=0 $(GO) build -o '$(abspath $@)' $(2) && touch '$(abspath $@)'

$(BIN)/buf: tools/go.mod tools/go.sum $(BIN)/.go-version
	$(call build-tool,tools,github.com/bufbuild/buf/cmd/buf)

$(GOLANGCI): tools/go.mod tools/go.sum $(BIN)/.go-version
	$(call build-tool,tools,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(GOTESTSUM): tools/go.mod tools/go.sum $(BIN)/.go-version
	$(call build-tool,tools,gotest.tools/gotestsum)

$(BIN)/devservers: tools/go.mod tools/go.sum $(BIN)/.go-version $(shell find tools/devservers -not -name '*_test.go')
	$(call build-tool,tools,./devservers)

$(BIN)/protoc-gen-go: proto/go.mod proto/go.sum $(BIN)/.go-version
	$(call build-tool,proto,google.golang.org/protobuf/cmd/protoc-gen-go)

$(BIN)/protoc-gen-connect-go: proto/go.mod proto/go.sum $(BIN)/.go-version
	$(call build-tool,proto,connectrpc.com/connect/cmd/protoc-gen-connect-go)

# Keeps its time as long as Go is the same.
$(BIN)/.go-version: FORCE
	@mkdir -p $(BIN)
	@$(GO) version | cmp -s - $@ || $(GO) version > $@

.PHONY: FORCE
FORCE:
