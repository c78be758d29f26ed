# `make` alone lists the targets. Each calls one verb; the work is in compose/ and in the layers' own mains.
.DEFAULT_GOAL := help
.PHONY: help up deploy down clean ps logs sample-log replay follow sources batch rollback collectors resume-topic accept-gap forget add-partitions audit query psql status transactions test test-all test-fast lint mutations simulate drill alerts heal-demo bench age soak servers clients
compose := compose/engine compose
# FULL=0, FULL=no and FULL= do not say yes.
said = $(filter-out 0 no false off,$(1))
# A statement is meant as it is typed: its $ is no variable of make's.
ifeq ($(origin SQL),command line)
override SQL := $(value SQL)
endif
export SQL

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start everything, build what is missing; TRAFFIC=none without simulated events, RATE=200 events a second, METRICS=1 with Prometheus
	@compose/up

deploy: ## bring changed code and views to the running stack, and compute what is new; FULL=1 computes all days
	@compose/deploy

down: ## stop everything and keep the data
	@$(compose) --profile '*' down --remove-orphans

clean: ## stop everything and delete the data; asks unless YES=1
	@compose/clean

ps: ## the containers and their health
	@$(compose) --profile '*' ps --all

logs: ## follow the logs: S=archiver of one service
	@$(compose) --profile '*' logs --follow --tail 100 $(S)

# A terminal's height is LINES too, so that counts only where it is said to make.
sample-log: ## write a made-up access log and its truth: LINES=10000 DAYS=3 SEED=1 HOSTS=1 FORMAT=combined|common|timed|vhost SITE=demo
	@compose/sample-log $(if $(filter command,$(firstword $(origin LINES))),--lines "$(LINES)") $(if $(DAYS),--days "$(DAYS)") \
	  $(if $(SEED),--seed "$(SEED)") $(if $(HOSTS),--hosts "$(HOSTS)") $(if $(FORMAT),--format "$(FORMAT)") $(if $(SITE),--site "$(SITE)")

replay: ## count what is new in LOG=access.log SITE=demo (docs/logs.md), or send FROM=2015-05-18 TO=2015-05-19 or QUARANTINE=1 again; docs/operations.md
	@compose/replay

follow: ## count LOG=/var/log/nginx/access.log SITE=demo as it grows, through rotation, until Ctrl-C
	@compose/follow

sources: ## what was counted of which files, when, how many lines: FORMAT=table|csv|json; in SQL the view sources
	@compose/sources

batch: ## compute the views anew for all days that new records are on, and publish them; FULL=1 all days, WAIT=1 after a run that goes on
	@$(compose) run --rm --no-deps batch python -m batch run $(if $(call said,$(FULL)),--full) $(if $(filter 1,$(WAIT)),--wait)

rollback: ## let the views answer from an earlier run that is kept: RUN=12, or the one before the live one
	@$(compose) run --rm -T --no-deps batch python -m serving rollback $(if $(RUN),--run "$(RUN)")

collectors: ## run N= instances of the collector from now on; AUTOSCALE=1 make up lets load say how many
	@$(compose) up -d --no-deps --no-recreate --scale "collector=$(N)" collector

resume-topic: ## let all readers go on in a topic that was made again, or that lost its end; docs/operations.md
	@compose/resume-topic

accept-gap: ## write down as lost what neither archive nor Kafka has, so that runs publish again; asks unless YES=1, DRY_RUN=1 shows it
	@compose/accept-gap

forget: ## take back all events of SITE=, VISITOR= (an address, a pseudonym) or SOURCE=, for good; asks unless YES=1, DRY_RUN=1 shows it
	@compose/forget

add-partitions: ## give the topic N= partitions in all, for more bolts; docs/operations.md
	@$(compose) run --rm -T --no-deps topic python -m ingest add-partitions "$(N)"

audit: ## prove that archive, positions, ledger and views are right; ONLY=archive one check, FORMAT=json for programs
	@$(compose) run --rm -T --no-deps batch python -m batch audit $(if $(filter json,$(FORMAT)),--json) $(if $(ONLY),--only $(ONLY))

query: ## ask the merged views (docs/sql.md): SQL="select ...", SQL_FILE=question.sql or a pipe; FORMAT=table|csv|json
	@compose/query

psql: ## an interactive SQL session on the merged views, as role reader
	@compose/psql

status: ## health, positions, lag, last run, ledger, addresses: FORMAT=json for programs, SHOW_PASSWORD=1 the reader's too
	@compose/engine ask -m serving status --format "$(or $(FORMAT),table)" $(if $(call said,$(SHOW_PASSWORD)),--show-password)

transactions: ## who has a transaction open in Kafka, as `make status` says; END=transactional-id aborts it
	@$(compose) exec -T kafka transactions $(if $(END),end "$(END)",list)

test: ## lint, types, unit, layer and whole-stack tests; a running stack is not disturbed
	@tests/run most

test-all: ## the same, with the tests that take minutes each
	@tests/run all

test-fast: ## unit tests: no engine needed
	@tests/run fast

drill: ## break a stack of its own under traffic and check every answer: NAME=kill-broker, NAME=chaos SEED=7 MINUTES=10 RATE=500, LIST=1, FORMAT=json, KEEP=1
	@tests/run drill $(if $(call said,$(LIST)),--list) $(if $(SEED),--seed "$(SEED)") $(if $(MINUTES),--minutes "$(MINUTES)") \
	  $(if $(RATE),--rate "$(RATE)") --format "$(or $(FORMAT),table)" $(NAME)

alerts: ## make each alert of Prometheus fire on a stack of its own, and see it end: NAME=readers, LIST=1, FORMAT=json, KEEP=1
	@tests/run alerts $(if $(call said,$(LIST)),--list) --format "$(or $(FORMAT),table)" $(NAME)

heal-demo: ## deploy a kernel with a bug on a stack of its own, see it, roll back, mend it: EVENTS=200000, FORMAT=json, KEEP=1
	@tests/run heal --events "$(or $(EVENTS),200000)" --format "$(or $(FORMAT),table)"

bench: ## measure beside rivals on a stack of its own: ONLY="drain batch", LIST=1, ROUNDS=5, RIVALS=0, FORMAT=json, KEEP=1
	@tests/run bench $(if $(call said,$(LIST)),--list) $(if $(filter 0,$(RIVALS)),--alone) --rounds "$(or $(ROUNDS),5)" --format "$(or $(FORMAT),table)" $(ONLY)

age: ## make a stack of its own as old as after YEARS=1 at RATE=200, and measure it beside a young one: ONLY="freshness audit", EVENTS=40000000, LIST=1, FORMAT=json, KEEP=1
	@tests/run age $(if $(call said,$(LIST)),--list) --years "$(or $(YEARS),1)" --rate "$(or $(RATE),200)" $(if $(EVENTS),--events "$(EVENTS)") \
	  --format "$(or $(FORMAT),table)" $(ONLY)

soak: ## leave a stack of its own alone with traffic, runs and faults for HOURS=10, then audit it: RATE=200, SEED=1, FORMAT=json, KEEP=1
	@tests/run soak --hours "$(or $(HOURS),10)" $(if $(SEED),--seed "$(SEED)") --rate "$(or $(RATE),200)" --format "$(or $(FORMAT),table)"

lint: ## ruff and mypy
	@tests/run lint

mutations: ## take each guard out of a copy of the code, on a stack of its own, and see something red: ONLY="epoch or fence" some
	@tests/run mutations $(if $(ONLY),-k "$(ONLY)")

simulate: ## histories of crashes and worse: SEEDS=300 from FIRST=0 on; VERBOSE=1 tells the steps of wrong ones
	@tests/run simulate --seeds "$(or $(SEEDS),300)" --first "$(or $(FIRST),0)" $(if $(call said,$(VERBOSE)),--verbose)

servers: ## count the logs of real servers, and compare with what their client sent: NAME=nginx, LIST=1, FORMAT=json, WRITE=1
	@tests/run servers $(if $(call said,$(LIST)),--list) $(if $(call said,$(WRITE)),--write) --format "$(or $(FORMAT),table)" $(if $(NAME),"$(NAME)")

clients: ## ask with the SQL clients that people have, and compare what arrives with docs/clients.md: NAME=polars, LIST=1, WRITE=1
	@tests/run clients $(if $(call said,$(LIST)),--list) $(if $(call said,$(WRITE)),--write) $(if $(NAME),"$(NAME)")
