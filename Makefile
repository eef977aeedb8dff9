# `make` lists the targets.
help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build the binary into bin/
	go build -o bin/fathom ./cmd/fathom

test: ## run every test
	go test ./...

proto: ## regenerate proto/*.pb.go (needs protoc, protoc-gen-go, protoc-gen-go-grpc)
	protoc --go_out=. --go_opt=module=github.com/fathom-train/fathom \
	  --go-grpc_out=. --go-grpc_opt=module=github.com/fathom-train/fathom proto/*.proto

.PHONY: help build test proto
