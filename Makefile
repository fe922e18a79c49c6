# firmcast: one entry point for each thing to do. Every target installs what it needs by itself (Debian 12, as root where
# packages or virtual machines are needed). Rust comes from rustup or the distribution.

SHELL := /bin/sh
LAB := tests/vm/lab.py
SIMULATOR := $(or $(CARGO_TARGET_DIR),target)/debug/firmcast-sim
# How many seeds `make test-sim` runs.
SEEDS ?= 120
# How many chips `make test-sim` breaks.
FLASH_SEEDS ?= 400
# How many worlds of dead hosts it runs.
RESCUE_SEEDS ?= 60
# How many labs of virtual machines run at a time.
VM_JOBS ?= 2
# Seconds that `make fuzz` gives each fuzz target.
FUZZ_SECONDS ?= 30
# How many worlds of updates `make soak` runs, with twice as many chips and half as many worlds of dead hosts, and the first
# of their seeds: behind those that `make test-sim` runs.
SOAK_SEEDS ?= 1000
SOAK_FIRST ?= 1000
# How often it runs the VM lab after that.
SOAK_VM_ROUNDS ?= 0
# For how many seconds `make test-fleet-real` lets things go wrong, over how many hosts, from which seed (a random one).
FLEET_SECONDS ?= 600
FLEET_HOSTS ?= 200
FLEET_SEED ?=
# How many requests `make test-api` makes for each operation and kind of request.
EXAMPLES ?= 50

.PHONY: help test-api test-ansible test-packages test-packages-vm build packages demo test test-unit test-sim test-firmware test-interop test-page test-upgrade test-vm test-fleet-real soak bench fuzz lint

# Behind `##`: how long it takes in a fresh clone, and when all is built already, on two cores (? is not measured); then what it does.
# What `packages` has was measured beside other work; 4 minutes of it are CPU time.
help: ## [-|-] what can be made
	@{ printf 'make\tcold\twarm\t\n'; \
		sed -n 's/^\([a-z-]*\):[^#]*## \[\(.*\)|\(.*\)\] /\1\t\2\t\3\t/p' Makefile; } | expand -t 15,24,33

build: need-cc ## [?|?] the static firmcastd, the manager firmcast, and firmcast-fleet, as released
	RUSTFLAGS='$(shell packaging/rustflags firmcastd)' cargo build --locked --release --target x86_64-unknown-linux-gnu --bin firmcastd
	cargo build --locked --profile fast -p firmcast-manager -p firmcast-fleet

packages: need-cc need-python3 ## [?|7 min] .deb and .rpm of the agent, the manager, the fleet and the initramfs hook, in target/packages
	packaging/packages

demo: need-cc need-python3 ## [7 min|1 min] two virtual servers get another BIOS over the network and boot it
	$(LAB) run demo

test: test-unit test-sim test-firmware test-interop test-vm ## [?|?] everything that decides whether firmcast is right

test-unit: need-cc need-postgres need-promtool need-python3 ## [?|?] unit, property and documentation tests; leaves out the simulator, real firmware images and virtual machines
	$(call cargo-test,--workspace)
	cargo test --locked --workspace --doc

test-sim: need-cc ## [?|?] the simulator: SEEDS=n worlds (120), FLASH_SEEDS=n chips (400), RESCUE_SEEDS=n worlds of dead hosts (60); SEED=n, FLASH_SEED=n, RESCUE_SEED=n run one again and tell all
	tests/programs
	$(SIMULATOR) $(if $(RESCUE_SEED),--rescue-seed $(RESCUE_SEED),$(if $(FLASH_SEED),--flash-seed $(FLASH_SEED),$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --flash-seeds $(FLASH_SEEDS) --rescue-seeds $(RESCUE_SEEDS))))

test-firmware: need-cc need-python3 ## [?|?] layouts and validity of real firmware, and sealed datagrams, compared with what other programs make of them
	tests/goldens/check
	tests/firmware/run

test-interop: need-cc need-python3 ## [?|45 s] a second implementation of the protocol, in Python: the test vectors of docs/vectors; as manager with a real agent, as dead hosts and as one that is updated with a real manager, and what Wireshark makes of that
	tests/interop/run

test-upgrade: need-cc need-python3 ## [?|?] the last release and today's programs together, both ways, in the VM lab: updates with escrow, restores, rescues
	tests/upgrade/run

test-packages: packages ## [?|16 min] lintian and rpmlint; the packages are installed, upgraded and removed by apt and by dnf in chroots, while kernels come and go
	packaging/check
	packaging/reproduce --packing
	tests/packages/confinement
	tests/packages/run
	tests/rpm/run

test-ansible: need-cc need-python3 ## [?|3 min] the Ansible collection with the real program: inventory, a playbook, ansible-test sanity; then two virtual servers get another BIOS by a playbook
	tests/ansible/run
	$(LAB) run rollout-by-ansible

test-packages-vm: packages ## [?|?] the same on whole Debians in the VM lab, where an installed agent updates its machine's flash
	tests/packages/lab

test-api: need-cc need-python3 ## [?|2 min] the fleet's HTTP API does what its description says: schemathesis, with EXAMPLES=n (50) for each operation
	tests/programs
	tests/api/run $(EXAMPLES)

test-page: need-cc need-python3 need-chromium ## [?|2 min] the fleet's page in a browser without a screen: live, without script, by keyboard alone; PICTURES=1 makes the pictures of docs/page anew
	tests/programs
	$(if $(PICTURES),.ci/need optipng optipng)
	tests/page/run $(if $(PICTURES),--pictures)

test-vm: need-cc need-python3 ## [?|?] real kernels with real firmware in emulated flash (docs/LAB.md)
	$(LAB) run --jobs $(VM_JOBS)

test-fleet-real: need-cc need-python3 need-postgres ## [?|?] real workers and PostgreSQL over simulated hosts on real sockets, while all of them die and return: FLEET_SECONDS=n (600), FLEET_HOSTS=n (200), FLEET_SEED=n runs one again as far as chance goes
	tests/fleet/run --seconds $(FLEET_SECONDS) --hosts $(FLEET_HOSTS) $(if $(FLEET_SEED),--seed $(FLEET_SEED))

soak: need-cc ## [?|?] hunts for hours: SOAK_SEEDS=n worlds from SOAK_FIRST=n on, each fuzz target for a minute, the fleet's API and page, the Ansible collection, also over virtual machines, the packages built twice and compared, and tried on whole Debians, the last release and today's programs together, a rollout over virtual machines, the hook in initramfs of distributions, test-fleet-real, SOAK_VM_ROUNDS=n rounds of the VM lab (0)
	tests/programs
	$(SIMULATOR) --first $(SOAK_FIRST) --seeds $(SOAK_SEEDS) --flash-seeds $$(($(SOAK_SEEDS) * 2)) --rescue-seeds $$(($(SOAK_SEEDS) / 2))
	@if command -v cargo-fuzz >/dev/null; then \
		$(MAKE) fuzz FUZZ_SECONDS=60; \
	else \
		echo "soak: cargo-fuzz is not there, the parsers were NOT fuzzed (cargo install --locked cargo-fuzz)"; \
	fi
	cargo test --locked -p firmcast-fleet --test fleet_sim fifty_thousand_hosts -- --ignored --nocapture
	$(MAKE) test-api
	$(MAKE) test-page
	packaging/reproduce
	$(MAKE) test-ansible
	$(MAKE) test-upgrade
	$(MAKE) test-packages-vm
	$(LAB) run rollout-in-three-waves hook-in-distribution-initramfs
	$(MAKE) test-fleet-real
	@round=1; while [ $$round -le $(SOAK_VM_ROUNDS) ]; do \
		echo "soak: round $$round of the VM lab"; $(LAB) run --jobs $(VM_JOBS) || exit 1; round=$$((round + 1)); \
	done

bench: need-cc need-python3 ## [?|?] prints a table and writes target/bench/*.json; decides nothing
	tests/bench/run

fuzz: need-cc ## [?|?] every parser, FUZZ_SECONDS each, beginning with the inputs of earlier runs
	@command -v cargo-fuzz >/dev/null || { echo "fuzz: building cargo-fuzz, this takes minutes"; cargo install --locked cargo-fuzz; }
	WRITE_FUZZ_SEEDS=1 cargo test --locked -q --lib wire::goldens
	tar -C fuzz --skip-old-files -xJf fuzz/corpus.tar.xz
	@for target in $$(cargo fuzz list); do \
		echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
	tar -C fuzz --sort=name --owner=0 --group=0 --mtime=@0 -cJf target/corpus.tar.xz corpus
	@echo "fuzz: what was found is in target/corpus.tar.xz; fuzz/corpus.tar.xz is where it is kept"

lint: need-cc need-python3 ## [?|?] format, lines of at most 100 columns, clippy and documentation with warnings denied, licences and sources of the dependencies
	cargo fmt --all --check
	.ci/wrap-comments --check
	.ci/columns
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	.ci/deny

# cargo-nextest where it is there, with the same tests.
define cargo-test
	@if command -v cargo-nextest >/dev/null; then \
		echo "cargo nextest run --locked $(1)"; cargo nextest run --locked $(1); \
	else \
		echo "cargo test --locked $(1) --all-targets"; cargo test --locked $(1) --all-targets; \
	fi
endef

.PHONY: need-cc need-chromium need-postgres need-promtool need-python3
need-cc:
	@.ci/need cc gcc libc6-dev
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust (https://rustup.rs)"; exit 1; }
need-postgres:
	@.ci/need pg_lsclusters postgresql
need-promtool:
	@.ci/need promtool prometheus
need-chromium:
	@.ci/need chromedriver chromium chromium-driver
need-python3:
	@.ci/need python3 python3
