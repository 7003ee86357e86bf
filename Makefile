# The one front door. `make help` lists what there is; the text behind ## is what it prints.
.DEFAULT_GOAL := help
.PHONY: help setup up start stop status logs reset generate openapi check test fuzz torture bench demo import token migrate

# Packaged by the set-up. Nothing but the set-up itself runs on the machine's own Node.
NODE := node_modules/.bin/node
BIN := node_modules/.bin
LAUNCHER := $(NODE) infra/local/main.ts
# make start STACK=test WITHOUT=projector,elasticsearch
STACK ?= dev
WITHOUT ?=
PART ?=
OPTIONS = --stack $(STACK) $(if $(WITHOUT),--without $(WITHOUT))
NODE_MISSING := Node 20 or newer is missing. Mend it with: https://nodejs.org/en/download, or on Debian: sudo apt-get install nodejs npm
# For targets that have nothing to do before the first set-up.
NEEDS_SETUP := test -x $(NODE) || { echo 'Nothing is set up yet. Mend it: make setup' >&2; exit 1; }
# The contract that clients were given; a change that breaks them fails `make check`.
PROTO_BASELINE := proto/baseline.binpb

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r target text; do printf '  make %-9s %s\n' "$$target" "$$text"; done

setup: ## fetch and prepare everything, once (the other targets do it themselves)
	@command -v node > /dev/null || { echo '$(NODE_MISSING)' >&2; exit 1; }
	@node infra/local/setup.mjs $(if $(filter setup,$(MAKECMDGOALS)),,--quiet)

up: setup ## start everything in the foreground; Ctrl-C stops it
	@$(LAUNCHER) up $(OPTIONS)

start: setup ## start everything in the background; returns when it is ready
	@$(LAUNCHER) start $(OPTIONS)

stop: ## stop everything
	@$(NEEDS_SETUP)
	@$(LAUNCHER) stop --stack $(STACK)

status: ## what runs, where, since when
	@$(NEEDS_SETUP)
	@$(LAUNCHER) status --stack $(STACK)

logs: ## follow the logs; PART=ledger follows one part
	@$(NEEDS_SETUP)
	@$(LAUNCHER) logs $(PART) --stack $(STACK)

reset: ## stop, then wipe all data; FORCE=1 does not ask
	@$(NEEDS_SETUP)
	@$(LAUNCHER) reset $(if $(FORCE),--force) --stack $(STACK)

generate: ## make TypeScript and descriptors from proto/ anew
	@command -v node > /dev/null || { echo '$(NODE_MISSING)' >&2; exit 1; }
	@node infra/local/setup.mjs --generate

openapi: setup ## write gateway/openapi.json anew, from proto/ and docs/errors.md
	@$(NODE) gateway/openapi.ts

migrate: setup ## bring the databases of the running stack to the newest schema
	@$(LAUNCHER) migrate --stack $(STACK)

check: setup ## types, lint, contract, dead code, house rules
	$(BIN)/tsc --noEmit
	$(BIN)/biome check --error-on-warnings
	$(BIN)/buf lint proto
	$(BIN)/buf breaking proto --against $(PROTO_BASELINE) --exclude-imports
	$(BIN)/knip
	$(NODE) --test tests/tidy.test.ts

test: setup ## every test, on real servers of its own
	@node infra/local/setup.mjs --quiet --tests
	@$(NODE) tests/run.ts

fuzz: setup ## made-up requests for every operation of the API, longer than `make test` does: EXAMPLES=200 SEED=1
	@node infra/local/setup.mjs --quiet --tests
	@LEDGERMESH_FUZZ_EXAMPLES=$(or $(EXAMPLES),200) LEDGERMESH_FUZZ_SEED=$(SEED) $(NODE) tests/run.ts --deadline-minutes 60 openapi-fuzz

torture: setup ## faults under load on a stack of its own, then every invariant: MINUTES=5 SEED=1 WITHOUT=elasticsearch
	@$(NODE) tests/torture/main.ts $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(WITHOUT),--without $(WITHOUT))

bench: setup ## the figures: throughput against raw Postgres, visibility in history: ONLY=grpc,raw (bench/README.md)
	@$(NODE) bench/main.ts $(if $(ONLY),--only $(ONLY))

demo: setup ## a little economy: people, shops, salaries, in the running stack
	@npx ledgermesh demo

import: setup ## import bank transactions: FILE=path.csv
	@test -n '$(FILE)' || { echo 'FILE is missing. Mend it: make import FILE=path.csv' >&2; exit 1; }
	@npx ledgermesh import '$(FILE)'

# Every shell has a USER of its own: only an id of ours is meant.
token: ## an access token for the running stack, and nothing else: ROLE=service|operator|merchant|user USER=user_…
	@$(NEEDS_SETUP)
	@test -n '$(ROLE)' || { echo 'ROLE is missing. Mend it: make token ROLE=service (or operator, merchant, user)' >&2; exit 1; }
	@$(NODE) cli/main.ts token --role '$(ROLE)' --stack '$(STACK)' $(if $(filter user_%,$(USER)),--user '$(USER)')
