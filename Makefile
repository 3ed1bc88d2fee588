# Everything runs through cargo, so a CARGO_TARGET_DIR of your own works.
CARGO ?= cargo
PROFILE ?= --release
SERVER ?=
NAME ?=
PORT ?=
SEED ?=
SECONDS ?=
FUZZ_SECONDS ?=
BEFORE ?=
AFTER ?=
ARGS ?=
RUNG ?=
CMD ?=
CLIENT ?=
BUG ?=
HTML ?=
ANSWERS ?=

# Where `make install` puts things. DESTDIR is put before each path, for packagers.
PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man/man1
# With a prefix below your home, the unit is for systemd's user manager; otherwise for the system's.
UNITDIR ?=
# The command that removes debug information from the installed programs; STRIP=true keeps it.
STRIP ?= strip
# systemd reads the options of the service there.
OPTIONS ?= /etc/default/chatserver

# They reach the shell as variables, whatever characters they hold.
export NAME SERVER PORT CMD RUNG CLIENT BUG HTML ANSWERS

.DEFAULT_GOAL := help
.PHONY: help run-server run-web run-client rung demo demo-board lab test test-without-tls lint lessons bugs grade check handouts book build install uninstall package dist pages pictures soak fuzz websocket-suite bench bench-quick bench-compare mutants cargo-is-there

help: # the targets, by the group before the colon in their `##` comments
	@echo "Usage: make TARGET"
	@for group in Chat Learn "Build your own" Install "Work on it"; do \
	  echo; echo "$$group"; \
	  sed -n "s/^\([a-z-]*\):.*## $$group: /\1\t/p" $(MAKEFILE_LIST) \
	    | while IFS="$$(printf '\t')" read -r name text; do printf '  %-16s  %s\n' "$$name" "$$text"; done; \
	done
	@echo
	@echo "ARGS='...' passes options; PORT=N selects the port. For run-client,"
	@echo "SERVER=HOST selects the server and NAME=YOU logs in."
	@echo "\`make run-server ARGS=--help\` and \`make run-client ARGS=--help\` list the"
	@echo "options."

# The options that need a cargo feature, OPTION:FEATURE; a test compares them with the programs' own. The programs are
# built with the features that ARGS needs, and no others: that halves the first build.
SERVER_FEATURES = --tls:tls --cluster:cluster --journal:journal
CLIENT_FEATURES = --tls:tls
needed = $(foreach row,$(1),$(if $(findstring $(firstword $(subst :, ,$(row))),$(ARGS)),$(lastword $(subst :, ,$(row)))))
SERVER_BUILD = --no-default-features --features "$(strip server $(call needed,$(SERVER_FEATURES)))" --bin chatserver
CLIENT_BUILD = --no-default-features --features "$(strip client $(call needed,$(CLIENT_FEATURES)))" --bin chatclient

run-server: cargo-is-there ## Chat: start the chat server
	@$(CARGO) build $(PROFILE) $(SERVER_BUILD)
	@$(CARGO) run --quiet $(PROFILE) $(SERVER_BUILD) -- $${PORT:+"$$PORT"} $(ARGS)

run-web: cargo-is-there ## Chat: start the server with a web page, open to your network
	@$(MAKE) --no-print-directory run-server ARGS='--web 0.0.0.0:8080 --workers 30 $(ARGS)'

run-client: cargo-is-there ## Chat: start a chat client
	@$(CARGO) build $(PROFILE) $(CLIENT_BUILD)
	@set --; \
	  if [ -n "$$SERVER$$PORT$$NAME" ]; then set -- "$${SERVER:-127.0.0.1}"; fi; \
	  if [ -n "$$PORT$$NAME" ]; then set -- "$$@" "$${PORT:-50000}"; fi; \
	  if [ -n "$$NAME" ]; then set -- "$$@" "$$NAME"; fi; \
	  $(CARGO) run --quiet $(PROFILE) $(CLIENT_BUILD) -- "$$@" $(ARGS); \
	  code=$$?; case $$code in 0|1|3|130) ;; *) exit $$code;; esac
	@# The client has printed why the chat ended; "make: *** Error 1" below it would only confuse.

# What to type in other terminals while the small server of a rung runs.
TALK_TO_RUNG = to=$${PORT:+" PORT=$$PORT"}; echo "In a second terminal, run:"; case "$$RUNG" in \
	  1|2|3) echo "  make run-client ARGS='echo 127.0.0.1 $${PORT:-50000}'"; \
	    echo "Each line that you type there comes back. Type \`Exit\` to disconnect.";; \
	  4) echo "  make run-client NAME=alice$$to"; \
	    echo "In a third terminal, run the same with NAME=bob. Then type \`%bob%hello\` as alice.";; \
	  5) echo "  make run-client NAME=alice$$to"; \
	    echo "In a third terminal, run the same with NAME=bob. Then type \`/all hello\` or \`/msg bob hello\` as alice.";; \
	  6) echo "  make run-client NAME=alice$$to"; \
	    echo "In a third terminal, run the same with NAME=bob. Then type \`/join lobby\` in both, and \`/send lobby hello\` in one of them.";; \
	  7) echo "  make run-client$$to"; \
	    echo "In a third terminal, run the same. Then type a line in one of them."; \
	    $(if $(ARGS),,echo "(The timeouts are very short. \`make rung RUNG=7 ARGS=30\` makes them 30 times as long.)";) ;; \
	  esac; echo "Press Ctrl-C to stop the server."

rung: cargo-is-there ## Learn: start a lesson's small server: RUNG=1 to 7, PORT=50000
	@case "$$RUNG" in [1-7]) ;; *) \
	  echo "Which rung? \`make rung RUNG=1\` starts the first server; rungs 1 to 7 have a server each."; exit 2;; esac; \
	$(CARGO) build --quiet $(PROFILE) --example "rung-$$RUNG" || exit; \
	folder=; if [ "$$RUNG" = 5 ]; then folder="$(BUILT)/rung-5"; mkdir -p "$$folder" && echo "The accounts are in $$folder."; fi; \
	$(TALK_TO_RUNG); \
	$(CARGO) run --quiet $(PROFILE) --example "rung-$$RUNG" -- "$${PORT:-50000}" $${folder:+"$$folder"} $(ARGS)

demo: cargo-is-there ## Learn: watch two scripted clients and the server for 30 seconds
	@$(CARGO) build $(PROFILE) --package portal-chat --bins --package portal-chat-demo
	@$(CARGO) run --quiet $(PROFILE) --package portal-chat-demo --bin demo

demo-board: cargo-is-there ## Learn: watch the nine rules acted out in a browser
	@$(CARGO) build $(PROFILE) --package portal-chat-demo --bin demo-board
	@$(CARGO) run --quiet $(PROFILE) --package portal-chat-demo --bin demo-board -- $(ARGS)

lab: cargo-is-there ## Learn: in a browser, press buttons that make clients misbehave
	@$(CARGO) build $(PROFILE) --package portal-chat-demo --bin lab
	@$(CARGO) run --quiet $(PROFILE) --package portal-chat-demo --bin lab -- $(ARGS)

# What takes longest comes first, and much of it waits: browsers, and programs that start.
SLOW_TESTS = check rungs transcripts web_page names
# These keep to the real time, with a show that a browser watches, idle timeouts, leases, and an engine that has to answer
# within a second. They mostly wait, so they run beside each other, and the processor's time that they leave goes to the
# models, which only count.
TIMED_TESTS = browser lab threads cluster prompts soak cluster_soak
TESTS = $(SLOW_TESTS) $(filter-out $(SLOW_TESTS) $(TIMED_TESTS),$(basename $(notdir $(wildcard tests/*.rs))))
# How many at once: one more than there are cores.
JOBS ?= $(shell expr 1 + $$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2))
PARTS = $(MAKE) --no-print-directory --keep-going
# This folder is below cargo's target folder.
LOGS ?= target/test-logs
PART = @sh tests/run.sh "$(LOGS)"

test: cargo-is-there ## Work on it: run all tests, printing one line per file
	@$(CARGO) test --quiet --workspace --no-run
	@logs="$(BUILT)/test-logs"; rm -rf "$$logs"; mkdir -p "$$logs"; \
	  $(PARTS) --jobs=$(JOBS) LOGS="$$logs" test@demo $(TESTS:%=test@%) test@lib test@examples test@doc test@bench; \
	  $(PARTS) --jobs=$(if $(filter 1,$(JOBS)),1,5) LOGS="$$logs" $(TIMED_TESTS:%=test@%) test@models; \
	  sh tests/run.sh "$$logs"

test@lib:
	$(PART) lib $(CARGO) test --no-fail-fast --workspace --lib --bins -- --skip model::

# The unit tests of the small servers.
test@examples:
	$(PART) examples $(CARGO) test --no-fail-fast --workspace --example 'rung-*'

# Every order of events, in three models: a walk of half a minute, which lets everybody else go first.
test@models:
	$(PART) models nice -n 19 $(CARGO) test --workspace --lib -- model::

# Make's own settings are none of rustdoc's business: it would look for a pipe in them that it was not given.
test@doc:
	$(PART) doc env MAKEFLAGS= $(CARGO) test --workspace --doc

# It plays with the programs that were built for the other tests.
test@demo:
	$(PART) demo $(CARGO) test --workspace --test demo

# Every benchmark once, in a small size: do they still run?
test@bench:
	$(PART) bench $(CARGO) test --bench chat

test@%:
	$(PART) $* $(CARGO) test --test $*

# What the design card's server does, built as `make run-server` does it.
LEAN = --no-default-features --features server,client,check
test-without-tls: cargo-is-there ## Work on it: run the server's tests without TLS and Redis
	$(CARGO) clippy $(LEAN) --all-targets -- -D warnings
	$(CARGO) test $(LEAN) --test transcripts --test client --test web --test features

lint: cargo-is-there ## Work on it: run rustfmt, clippy and rustdoc; check commit subjects
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items
	@sh tests/commits.sh

# The code whose tests mutants measure: what travels, and the core's rules, by their own unit tests; and the sessions, by
# the transcripts, too. `cargo install cargo-mutants` installs the tool. On two cores the first part takes about an hour,
# and the second a minute for each of 300 mutants; ARGS='--shard 0/6 --sharding round-robin' selects a sixth of each.
RULES = src/wire/*.rs src/core/seat/*.rs src/core/seats.rs src/core/clock.rs src/core/tick.rs src/core/outbox.rs \
  src/core/outbox/*.rs
SESSIONS = $(patsubst %,src/sessions/%.rs,at_worker in_room login moderate outgoing pending_replies room_rules turn)
# A mutant that no test notices (2), that makes a test wait for ever (3), or the end of the hour (124) is no failure.
MUTANTS = CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 timeout 3600 $(CARGO) mutants --workspace --jobs 2 \
  --exclude '**/model.rs' $(ARGS)
mutants: cargo-is-there ## Work on it: change one rule at a time; list changes that no test notices
	@command -v cargo-mutants >/dev/null || { echo "make: cargo-mutants is not installed: run \`cargo install --locked cargo-mutants\`, then run make again."; exit 2; }
	$(MUTANTS) $(RULES:%=--file='%') --output target/mutants/rules --test-workspace false --timeout 20 \
	  -- --lib -- --skip model:: || case $$? in 2|3|124) ;; *) exit 1;; esac
	$(MUTANTS) $(SESSIONS:%=--file='%') --output target/mutants/sessions --baseline=skip --timeout 120 \
	  --test-package portal-sessions,portal-server,portal-chat \
	  -- --lib --test transcripts -- --skip model:: --skip chopped:: --skip over_tls:: || case $$? in 2|3|124) ;; *) exit 1;; esac

# The lessons, without the answers to the exercises unless ANSWERS is set.
SHOWN_LESSONS = if [ -n "$$ANSWERS" ]; then cat $$pages; \
	  else sed '/^<details>/,/<\/details>$$/c\(The answer: `make lessons ANSWERS=1`)' $$pages; fi
# On a terminal, without Markdown's signs. Elsewhere (`make lessons > FILE`) the pages stay as they are.
AS_TEXT = awk -v width="$$(tput cols 2>/dev/null)" -f src/lesson/ladder/terminal.awk
lessons: ## Learn: read the nine lessons, or a single one with RUNG=1 to 9
	@case "$$RUNG" in [1-9]|"") ;; *) \
	  echo "Which lesson? \`make lessons RUNG=1\` shows the first of nine lessons."; exit 2;; esac; \
	pages="$$(echo src/lesson/ladder/$${RUNG:-[1-9]}-*.md)"; \
	if [ -n "$$HTML" ]; then $(CARGO) doc --no-deps --quiet && \
	  page="$(BUILT)/doc/portal_chat/lesson/ladder/index.html"; \
	  echo "Open file://$$page"; \
	  if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] && command -v xdg-open >/dev/null; then xdg-open "$$page"; \
	  elif [ "$$(uname)" = Darwin ]; then open "$$page"; fi; \
	elif [ -t 1 ]; then { $(SHOWN_LESSONS); } | $(AS_TEXT) | LESS="$${LESS--R}" $${PAGER:-less}; \
	  echo "\`make lessons HTML=1\` builds the lessons as web pages, with links."; \
	else $(SHOWN_LESSONS); fi

grade: cargo-is-there ## Build your own: check your own server: RUNG=1 CMD='python3 s.py {port}'
	@if [ -n "$$BUG" ]; then \
	  page="$$(ls src/lesson/ladder/"$$BUG"-*.md 2>/dev/null)"; \
	  test="$$(sed -n '/^git apply src/,$$s/^Check: `cargo \(test [^`]*\)`.*/\1/p' "$${page:-/dev/null}" | head -n 1)"; \
	  if [ -z "$$test" ]; then echo "Rung $$BUG has no bug; rungs 3 to 7 and 9 have a bug each."; exit 2; fi; \
	  echo "cargo $$test"; \
	  if $(CARGO) $$test --quiet; then echo "✓ The check for rung $$BUG's bug passes: the code does not have the bug."; exit 0; \
	  else echo "✗ The check for rung $$BUG's bug fails: see above. The exercise is in $$page."; exit 1; fi; \
	fi; \
	if [ -z "$$RUNG$$CLIENT" ]; then \
	  echo "Which rung? \`make grade RUNG=1\` prints the first of 7 tasks. To check your server:"; \
	  echo "  make grade RUNG=1 CMD='python3 server.py {port}'"; \
	  echo "CLIENT=1 instead of RUNG=1 selects the task for a client."; exit 2; fi; \
	$(CARGO) build --quiet $(PROFILE) --bin chatcheck && \
	$(CARGO) run --quiet $(PROFILE) --bin chatcheck -- "$${RUNG:-1}" $${CLIENT:+--client} $${CMD:+"$$CMD"} $(ARGS)

# Elsewhere `make check` runs the tests. It was the name of `make grade` until 0.3.
check: ## Work on it: do the same as `make test`, unless RUNG is set
	@if [ -n "$$RUNG$$CLIENT$$BUG$$CMD" ]; then \
	  echo "make: \`make check RUNG=…\` is now \`make grade RUNG=…\`." >&2; \
	  $(MAKE) --no-print-directory grade; \
	else $(MAKE) --no-print-directory test; fi

handouts: cargo-is-there ## Build your own: write the tasks as printable pages
	@$(CARGO) build --quiet --bin chatcheck
	@$(CARGO) run --quiet --example handouts -- handouts

book: cargo-is-there ## Learn: write the lessons, tasks and guide as web pages to book/
	@$(CARGO) run --quiet --no-default-features --features server --example book -- book

PROGRAMS = chatserver chatclient chatcheck
BASH_COMPLETIONS = $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS = $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS = $(PREFIX)/share/fish/vendor_completions.d

# Where cargo builds, wherever that is.
BUILT = $$($(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

build: cargo-is-there ## Install: build the programs, their manual pages and completions
	@$(CARGO) build --release --bins
	@built="$(BUILT)"; mkdir -p "$$built/release/package"; cd "$$built/release/package" && \
	for program in $(PROGRAMS); do \
	  if command -v $(STRIP) >/dev/null 2>&1; then cp "../$$program" . && $(STRIP) "$$program"; else cp "../$$program" .; fi && \
	  "../$$program" --man > "$$program.1" && \
	  "../$$program" --completions bash > "$$program.bash" && \
	  "../$$program" --completions zsh > "_$$program" && \
	  "../$$program" --completions fish > "$$program.fish" || exit 1; \
	done

# Shell code that finds the folder of the unit and its manager (user or system).
FIND_UNITDIR = \
	home="$$HOME"; if [ -n "$$SUDO_USER" ]; then home="$$(getent passwd "$$SUDO_USER" | cut -d: -f6)"; fi; \
	case "$(PREFIX)/" in "$${home:-/nowhere}"/*) manager=user; unitdir="$(PREFIX)/share/systemd/user";; \
	  *) manager=system; unitdir="$(PREFIX)/lib/systemd/system";; esac; \
	unitdir="$(or $(UNITDIR),$$unitdir)"

# Elsewhere than under /usr, `man` does not find the page by its name, and systemd would complain of that.
install: ## Install: install programs and a systemd unit under PREFIX=/usr/local
	@# root often has no cargo (`sudo make install`), and what root builds nobody else can build again.
	@if [ -z "$$SUDO_USER" ] && command -v $(CARGO) >/dev/null 2>&1; then $(MAKE) --no-print-directory build; fi
	@built="$(BUILT)"; built="$${built:-target}"; \
	if [ ! -e "$$built/release/package/chatserver.1" ]; then \
	  echo "make: nothing has been built yet: run \`make build\` as yourself, then \`sudo make install\`."; exit 1; fi; \
	there="$(DESTDIR)$(PREFIX)"; until [ -e "$$there" ]; do there="$$(dirname "$$there")"; done; \
	if [ ! -w "$$there" ]; then \
	  echo "make: no permission to write to $(DESTDIR)$(PREFIX): use \`sudo make install\`, or choose another folder:"; \
	  echo "  make install PREFIX=$$HOME/.local"; exit 1; fi; \
	for program in $(PROGRAMS); do \
	  install -D -m 755 "$$built/release/package/$$program" "$(DESTDIR)$(BINDIR)/$$program" && \
	  install -D -m 644 "$$built/release/package/$$program.1" "$(DESTDIR)$(MANDIR)/$$program.1" && \
	  install -D -m 644 "$$built/release/package/$$program.bash" "$(DESTDIR)$(BASH_COMPLETIONS)/$$program" && \
	  install -D -m 644 "$$built/release/package/_$$program" "$(DESTDIR)$(ZSH_COMPLETIONS)/_$$program" && \
	  install -D -m 644 "$$built/release/package/$$program.fish" "$(DESTDIR)$(FISH_COMPLETIONS)/$$program.fish" || exit 1; \
	done; \
	$(FIND_UNITDIR); unit="$$unitdir/chatserver.service"; \
	case $$manager in user) source=src/package/user/chatserver.service;; *) source=src/package/chatserver.service;; esac; \
	install -d "$(DESTDIR)$$unitdir" && \
	case "$(PREFIX)" in /usr|/usr/local) page='man:chatserver(1)';; *) page='file:$(MANDIR)/chatserver.1';; esac && \
	sed "s|/usr/bin/|$(BINDIR)/|; s|/etc/default/chatserver|$(OPTIONS)|; s|man:chatserver(1)|$$page|" \
	  "$$source" > "$(DESTDIR)$$unit" && \
	install -D -m 644 src/package/chatserver.default "$(DESTDIR)$(PREFIX)/share/doc/portal-chat/chatserver.default" && \
	echo "Installed under $(DESTDIR)$(PREFIX). Run \`chatserver\` (see \`chatserver --help\` and \`man chatserver\`)."; \
	case $$manager:"$(PREFIX)" in \
	  user:*) echo "To start a server whenever you log in: systemctl --user daemon-reload && systemctl --user enable --now $$unit"; \
	    echo "(To start the server when the machine boots: loginctl enable-linger.) The options of the server are in ~/.config/portal-chat/chatserver, as OPTIONS=...";; \
	  *:/usr|*:/usr/local) echo "To start a server whenever the machine boots: systemctl daemon-reload && systemctl enable --now chatserver";; \
	  *) echo "To start a server whenever the machine boots: systemctl daemon-reload && systemctl enable --now $$unit";; esac; \
	case $$manager in system) echo "The options of the server are in $(OPTIONS); $(PREFIX)/share/doc/portal-chat has an example.";; esac; \
	case ":$$PATH:" in *":$(BINDIR):"*) ;; *) [ -n "$(DESTDIR)" ] || echo "$(BINDIR) is not on your PATH: add it, or run $(BINDIR)/chatserver.";; esac

uninstall: ## Install: remove what `make install` installed (same PREFIX)
	@for program in $(PROGRAMS); do \
	  rm -f "$(DESTDIR)$(BINDIR)/$$program" "$(DESTDIR)$(MANDIR)/$$program.1" \
	    "$(DESTDIR)$(BASH_COMPLETIONS)/$$program" "$(DESTDIR)$(ZSH_COMPLETIONS)/_$$program" \
	    "$(DESTDIR)$(FISH_COMPLETIONS)/$$program.fish" || exit 1; \
	done; \
	$(FIND_UNITDIR); rm -f "$(DESTDIR)$$unitdir/chatserver.service" && rm -rf "$(DESTDIR)$(PREFIX)/share/doc/portal-chat" && \
	echo "Uninstalled from $(DESTDIR)$(PREFIX)."

package: build ## Install: build a Debian package (needs cargo-deb)
	@command -v cargo-deb >/dev/null 2>&1 || { \
	  echo "make: cargo-deb is not installed: run \`cargo install cargo-deb\`, then run make again."; exit 1; }
	@$(CARGO) deb --no-build --no-strip

# The host's triple, as in the names of other Rust programs' archives.
TARGET = $$($(CARGO) -vV | sed -n 's/^host: //p')
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The files of an archive have the commit's time, so that the same commit gives the same archive.
COMMITTED = $${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)}

# The archive has what `make install` installs under /usr/local.
dist: cargo-is-there ## Install: build an archive of the programs, with a checksum
	@name="portal-chat-$(VERSION)-$(TARGET)"; built="$(BUILT)"; stage="$$built/dist/stage"; \
	rm -rf "$$stage" && mkdir -p "$$stage" && \
	$(MAKE) --no-print-directory install DESTDIR="$$stage" PREFIX=/usr/local BINDIR=/usr/local/bin \
	  MANDIR=/usr/local/share/man/man1 UNITDIR= > /dev/null && \
	mv "$$stage/usr/local" "$$stage/$$name" && cp README.md LICENSE "$$stage/$$name" && \
	cd "$$built/dist" && tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(COMMITTED)" \
	  -C stage -cf - "$$name" | gzip -9n > "$$name.tar.gz" && \
	sha256sum "$$name.tar.gz" > "$$name.tar.gz.sha256" && rm -rf stage && \
	echo "Built $$built/dist/$$name.tar.gz (and .sha256)." && \
	echo "To install the programs, unpack the archive and copy its folders bin, lib and share into /usr/local."

pages: cargo-is-there ## Work on it: regenerate the generated parts of the pages
	WRITE_PAGES=1 $(CARGO) test --workspace --lib -- the_options_stand_on_the_page the_page_has_the_terminals_table
	WRITE_PAGES=1 $(CARGO) test --test rungs each_page_shows_its_server

pictures: cargo-is-there ## Work on it: redraw the pictures of README and guide (needs Chromium)
	$(CARGO) test --test web_page -- --ignored --exact pictures

soak: cargo-is-there ## Work on it: run hostile clients for SECONDS=60 (SEED=N, CLUSTER=1)
	SOAK_SECONDS=$(or $(SECONDS),60) SEED=$(SEED) $(CARGO) test --release --test $(if $(CLUSTER),cluster_soak,soak) -- --nocapture

fuzz: cargo-is-there ## Work on it: fuzz each parser for FUZZ_SECONDS=60 (needs nightly Rust)
	for target in frames documents accounts typed; do \
	  $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(or $(FUZZ_SECONDS),60) -max_len=9000 || exit 1; done

bugs: cargo-is-there ## Work on it: check that each lesson's exercise finds its bug
	$(CARGO) test --test ladder -- --ignored --nocapture

websocket-suite: cargo-is-there ## Work on it: run the Autobahn WebSocket suite (needs Python 2.7)
	$(CARGO) test --release --test websocket -- --ignored --nocapture

bench: cargo-is-there ## Work on it: benchmark against bare sockets (only one: ARGS=fan-out)
	@$(CARGO) bench --quiet --bench chat -- $(ARGS)

bench-quick: cargo-is-there ## Work on it: run a benchmark that takes less than a minute
	@$(CARGO) bench --quiet --bench chat -- --quick $(ARGS)

bench-compare: cargo-is-there ## Work on it: compare two benchmark results: BEFORE=file AFTER=file
	@$(CARGO) bench --quiet --bench chat -- compare $(BEFORE) $(AFTER)

# The version that Cargo.toml asks for; without this check an old cargo fails in words that help nobody.
NEEDED := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

cargo-is-there:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
	  echo "make: cargo is not on your PATH."; \
	  echo "Install Rust $(NEEDED) or newer with rustup (https://rustup.rs), open a new terminal, and run make again."; \
	  exit 1; }
	@have=$$($(CARGO) --version | sed -n 's/^cargo \([0-9.]*\).*/\1/p'); \
	  [ -n "$$have" ] || { \
	  echo "make: \`cargo --version\` fails. A fresh rustup has no toolchain yet: run \`rustup default stable\`, then run make again."; \
	  exit 1; }; \
	  oldest=$$(printf '%s\n%s\n' "$(NEEDED)" "$$have" | sort -V | head -n 1); \
	  [ "$$oldest" = "$(NEEDED)" ] || { \
	  echo "make: this project needs Rust $(NEEDED) or newer, but cargo is version $$have."; \
	  echo "Run \`rustup update stable\`, then run make again."; \
	  exit 1; }
