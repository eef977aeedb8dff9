# `make` lists the targets.
help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build the static binary bin/fathom
	CGO_ENABLED=0 go build -trimpath -o bin/fathom ./cmd/fathom

test: ## run every test
	go test ./...

race: ## run the tests of the concurrent packages under the race detector
	.ci/run race

lint: ## check format, vet, staticcheck and the import layers
	.ci/run format vet static layers

quickstart: ## train the example on a local cluster
	go run ./cmd/fathom run deploy/jobs/quickstart.yaml

ci: ## run everything that a change must pass
	.ci/run

proto: ## regenerate proto/*.pb.go (needs protoc, protoc-gen-go, protoc-gen-go-grpc)
	protoc --go_out=. --go_opt=module=github.com/fathom-train/fathom \
	  --go-grpc_out=. --go-grpc_opt=module=github.com/fathom-train/fathom proto/*.proto

.PHONY: help build test race lint quickstart ci proto
