# `make` lists the targets.
help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build the static binary bin/fathom
	CGO_ENABLED=0 go build -trimpath -o bin/fathom ./cmd/fathom

TAG ?= registry.example/fathom:dev
image: ## write container images for amd64 and arm64 to bin/image (TAG=name:tag), without a daemon
	CGO_ENABLED=0 GOARCH=amd64 go build -trimpath -ldflags='-s -w' -o bin/fathom-amd64 ./cmd/fathom
	CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -ldflags='-s -w' -o bin/fathom-arm64 ./cmd/fathom
	go run ./cmd/image -out bin/image -tag $(TAG) bin/fathom-amd64 bin/fathom-arm64

test: ## run every test
	go test ./...

sim: ## simulate SEEDS schedules of faults (default 1000), the first is FIRST, and a fifth as many in mode async
	cd e2e/sim && go test -run 'TestSimulation$$|TestAsyncSimulation$$' -count=1 -timeout 0 -sim.seeds=$(or $(SEEDS),1000) -sim.first=$(or $(FIRST),1)

defects: ## build the system with deliberate defects and want the simulation to find each (a few minutes)
	cd e2e/sim && go test -run TestDefectsAreFound -count=1 -timeout 0 -v -sim.defects=$(or $(SEEDS),100)

faults: ## kill and stop every role of a real cluster in every phase (about 10 minutes)
	FATHOM_FAULTS=all go test ./e2e -run 'TestFaultsChangeNothing|TestDivergedReplicaIsNamed' -count=1 -v -timeout 60m

race: ## run the tests of the concurrent packages under the race detector
	.ci/run race

lint: ## check format, vet and staticcheck
	.ci/run format vet static

quickstart: ## train the example on a local cluster
	go run ./cmd/fathom run deploy/jobs/quickstart.yaml

MODELS ?= $(filter-out search,$(patsubst deploy/jobs/frappe-%.yaml,%,$(wildcard deploy/jobs/frappe-*.yaml)))
three-seeds := [2021, 2022, 2023]
models: ## train the Frappe jobs MODELS (default all) on the files in DATA, once per seed of SEEDS; CLUSTER= flags of fathom run
	@test -n "$(DATA)" || { echo 'make models DATA=DIR: say where train.csv, valid.csv and test.csv of Frappe are'; exit 2; }
	go build -o bin/fathom ./cmd/fathom
	@for model in $(MODELS); do \
	  echo "== $$model"; \
	  bin/fathom run deploy/jobs/frappe-$$model.yaml --log-level warn --set spec.data.root=$(abspath $(DATA)) \
	    --set 'spec.train.seeds=$(or $(SEEDS),$(three-seeds))' $(or $(CLUSTER),--workers 2 --ps 3 --replicas 3) || exit 1; \
	done

search-table: ## the table of docs/search.md, on the Frappe files in DATA: every strategy and budget (SEEDS, BUDGETS, STRATEGIES, OWN, WIDTH, CLUSTER: .ci/search-table)
	@test -n "$(DATA)" || { echo 'make search-table DATA=DIR: say where train.csv, valid.csv and test.csv of Frappe are'; exit 2; }
	.ci/search-table $(DATA) $(or $(OUT),bin/search-table)

ci: ## run everything that a change must pass
	.ci/run

proto: ## regenerate proto/*.pb.go (needs protoc, protoc-gen-go, protoc-gen-go-grpc)
	protoc --go_out=. --go_opt=module=github.com/fathom-train/fathom \
	  --go-grpc_out=. --go-grpc_opt=module=github.com/fathom-train/fathom proto/*.proto

.PHONY: help build image models search-table test race lint quickstart ci proto sim defects faults
