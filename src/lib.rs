//! A chat server with a thread for every connection, made to be read and to be used.
//!
//! A client asks the *portal* where to go. The portal takes a port off the *workload stack* and
//! answers with it and a one-time *passcode*. On that port a *worker* waits, one thread for one
//! client; whoever says the right passcode first is in, and talks with whoever sits beside it.
//! A *ticker* stands for the clock interrupt: everything that may take only so long is counted in
//! its ticks.
//!
//! # The map
//!
//! The project is a workspace of crates in `src`. A crate can use only those that its `Cargo.toml` names,
//! and they are further down in this table.
//!
//! | crate | contains | does not know |
//! |---|---|---|
//! | `portal-chat` (this one) | the three programs, the [`guide`], the ladder of lessons | |
//! | `portal-server` ([`program`], [`server`], [`event`]) | the program `chatserver`: options, the operator's console, signals, event files; starts the threads of all other crates | |
//! | `portal-check` ([`check`]) | the program `chatcheck`: checks a server that a student has written, one rung of the ladder at a time | how this server works |
//! | `portal-client` ([`client`]) | the program `chatclient`: finds a seat, edits lines, shows what arrives | the server |
//! | `portal-lesson` ([`lesson`]) | the smallest servers, which teach one thing each; [the ladder](lesson::ladder) leads from them to here | everything else |
//! | `portal-backplane` ([`cluster`], with the feature `cluster`) | several servers as one chat, over a Redis | sockets and sessions |
//! | `portal-board` ([`board`]) | a page that shows the inside of a running server, or of a recorded run | anything but events |
//! | `portal-entrances` | browsers, the single port, callbacks, the TLS portal; the protocols that clients speak there | what a session does |
//! | `portal-web` | HTTP as far as the chat page and the board need it, and the chat page | what is said over it |
//! | `portal-accounts` ([`accounts`]) | names and passwords in a file | who is connected |
//! | `portal-tls` (with the feature `tls`) | certificates, fingerprints, and which servers a client trusts | sockets |
//! | `portal-cli` | command lines, text files that people edit, output that can fail, signals, the terminal | what the programs do |
//! | `portal-core` ([`core`]) | the server of the design card: see below | browsers, TLS, other servers, files, programs |
//! | `portal-net` ([`net`]) | sockets and what std's lack, TLS below a stream; `--trace` and `--chop`; locks with a checked order | what is sent |
//! | `portal-wire` ([`wire`]) | frames, documents, names, text that is safe to show | sockets, locks, threads |
//!
//! The core, in the order in which a connection meets it:
//!
//! | module | contains |
//! |---|---|
//! | [`core::portal`], [`core::seats`], [`seat`] | the portal; the workload stack and who has which seat; the states of one seat and its passcode, without sockets |
//! | [`core::worker`], [`core::visit`], [`core::sockets`] | a worker's port; the one life of a connection; how a socket becomes a connection |
//! | [`core::transport`] | the form of a connection's documents: XML lines here, others in `portal-entrances` |
//! | [`core::session`] | what a client sends and what it is answered |
//! | [`hall`], [`core::room_manager`], [`core::room_threads`] | the clients by pairs, names and rooms; a room's port and threads |
//! | [`outbox`], [`wake`], [`core::timer`], [`core::liveness`] | the way to a client's socket; the threads that write what did not fit and enforce deadlines |
//! | [`clock`], [`tick`] | time in ticks |
//! | [`core::accounts`], [`core::backplane`] | the seams to names with passwords and to other servers |
//! | [`core::event`] | what happens, for the console, the event file, the board and the tests |
//! | [`core::guard`], [`core::panics`], [`core::limits`] | what keeps one client from costing the others |
//!
//! [`protocol`] says what travels, byte for byte. `tests/transcripts` plays each rule. [`limits`] has every limit with its
//! reason.
//!
//! # The threads
//!
//! Each blocks on one thing, and its name says whose it is: `top -H` and `ps -T` show it, and so
//! does every event line.
//!
//! | thread | how many | blocks on | does |
//! |---|---|---|---|
//! | `main` | 1 | the channels of signals and typed lines | starts the others, obeys the operator, joins them all |
//! | `ticker` | 1 | its stop channel, a tick at a time | moves the clock on, broadcasts the tick |
//! | `liveness` | 1 | its channel of ticks | checks whether the clients' kernels still acknowledge data, and ends the sessions of vanished clients |
//! | `portal-tcp`, `portal-udp` | 1 each | `accept`, `recv_from` | reserves a seat, answers |
//! | `portal-tls-1` … | at most 64 together with `browser-…` without a seat and `full-…` | `read` | completes a caller's TLS handshake, then does the portal's work |
//! | `worker-50001` … | 1 a port | `accept`, then `read` | admits one client (or calls it: `connect`), reads what it says, delivers it |
//! | `late-workers` | 1, if a worker's port was busy at the start | the ticks | tries these ports again, and starts their workers |
//! | `timer-50001` … | 1 a port | its channel: ticks, word of work, the end | ends what takes too long, writes what did not fit into a full socket before |
//! | `full-1` … | see `portal-tls-1` | `read` | tells a caller over TLS that the single port is full |
//! | `single-50000`, `seat-1` … | with `--single-port`: 1, and 1 a client | `accept`, `read` | instead of the portal and the workers |
//! | `web-8080` | 1, with `--web` | `accept` | lets browsers in |
//! | `browser-1` … | 1 per browser in a seat; without one, see `portal-tls-1` | `read` | answers its `GET`, or is portal and worker for it |
//! | `room-50005` | 1 a room | `accept` | lets callers in; at the end waits for the room's threads and puts the port back |
//! | `timer-50005` | 1 a room | its channel | ends reservations that nobody takes up |
//! | `member-1` …, `writer-50005` | 1 each a member; without a passcode, see `portal-tls-1` | `read`, its channel | as a worker and its timer |
//! | `console`, `event-file` | 1 each | their queue of events | write them, so that nobody else waits for a terminal or a disk |
//! | `board-8050`, `board-feed` | 1 each, with `--board` | `accept`, its queue of events | let browsers in; makes a picture of what happens |
//! | `cluster-out` | 1, with `--cluster` | its queue | sends the engine what is asked of the other servers, and keeps this one's lease |
//! | `cluster-in` | 1, with `--cluster` | the engine's streams | hands on what the others say |
//! | `viewer-1` … | at most 100 that watch the board, and 64 that have not sent a request yet | its queue of news | writes it into the browser's socket |
//! | `keys` | 1, at a terminal | the terminal | takes out of what is typed what would end the editor, and hands it on a line at a time |
//! | `keyboard` | 1, at a terminal | what `keys` hands on | edits a line; what was typed goes to `main` |
//! | `answers` | 1, at a terminal | its queue of answers to the operator | prints them |
//! | `signals` | 1 | a signal | the first one ends the server in order, the second at once |
//!
//! # Words
//!
//! | word | what it is here |
//! |---|---|
//! | seed 000 to 004 | the five documents from which this grew; [`guide::seeds`] has the command that is each one's server |
//! | portal | the port at which everybody asks first |
//! | worker | a thread with a port of its own, for one client at a time |
//! | seat | the right to be a worker's client, with its phases from free to closing |
//! | passcode | what the portal says and the worker wants to hear: good for one connection |
//! | workload stack | the ports of the free seats; the one that was freed last goes out first |
//! | lease | the right to a port or a place, which is on a stack, or in somebody's hands: never in two |
//! | tick | the clock's count; every timeout is a number of them |
//! | timekeeper | the thread that judges a seat's deadlines and writes what did not fit into a full socket before |
//! | connection | a client that is connected: who it is, and the way to it |
//! | outbox | the way to one client's socket; it spills when the socket is full |
//! | codec | how one connection's documents become frames and bytes, and back |
//! | member | somebody in a room, who hears it on a connection of the room's own or on the main one |
//! | stray | somebody who comes to a port where nobody, or somebody else, is expected |
//! | no-show | an event: nobody has come in time for a seat that the portal had reserved |
//! | freed | an event: the seat is empty again, has a new passcode, and its port is on the stack |
//! | heard | a client's sign of life, from which its idle timeout is counted anew |
//! | engine | the Redis that keeps what several servers have in common |
//! | boot | a server's lease among others, as a word that nobody else has: who has lost it is behind the fence |
//! | turn | one read, every frame in it, and one write to each who hears them |
//!
//! # The path of a message
//!
//! Alice's worker reads (`Session::run`, `src/core/session/turn.rs`). Her decoder turns the bytes into documents
//! ([`core::transport::Decoder`]). The session's role decides what each means (`src/core/session/at_worker.rs`, or
//! `in_room.rs`). Messages are gathered (`src/core/session/speaker.rs`) and, at the turn's end, encoded once per encoding
//! among the recipients ([`hall::Said`]) and written into each one's socket ([`outbox::Outbox::send`]). One read, one write,
//! one thread. Only if the partner's socket is full does a second thread take part: the partner's timer writes the rest.
//!
//! A browser's message takes the same path: its thread (`src/entrances/browser.rs`) took the seat off the stack, and from
//! the passcode on it is a session like any other, over another transport (`src/entrances/web_socket.rs`).
//!
//! With `--cluster`, public messages and those for rooms go to Redis instead ([`core::backplane::Backplane::publish`]), and
//! all recipients get them when the thread `cluster-in` reads them back (`src/core/local_delivery.rs`).
//!
//! # A new command
//!
//! TOPIC is an example; `git grep -il topic src` lists the files that name it. Most of them need no change for a
//! command of a server alone: contributing has the list of those that do.
//!
//! # The locks
//!
//! A thread may take a lock only if the lock's rank is further down in this table than that of every lock it holds, and
//! never two of one rank. Debug builds check this (`src/net/lock.rs`), so a violation fails a test.
//!
//! | rank | locks | why others are taken under it |
//! |---|---|---|
//! | `Registry` | a pair's, the people's, the rooms' | joins and departures reach everyone in one order: they are appended to outboxes, and names are looked up |
//! | `PendingReplies` | one client's replies that depend on other servers | replies are appended to the outbox in request order |
//! | `ReserveFd` | the spare descriptor | it accepts one caller without waiting and tells it FULL |
//! | `Outbox` | one client's outbox | what is written is encrypted and given to the socket in one order |
//! | `Tls` | one connection's TLS | |
//! | `ClusterState` | whether the connections to Redis work | messages read so far are processed when they work again |
//! | `AccountsFile` | the accounts file | an account is valid once it is on the disk |
//! | `Leaf` | a seat's, the workload stack, the rooms' ports, seats per address, identities, pending callers, the board's viewers, and all others | nothing |
//!
//! Only `Outbox`, `Tls` and `ReserveFd` may be held while a socket is read or written, and that call can't block; debug
//! builds check this, too. No lock is held over a bind, a spawn or a join, and no callback is called under one.
//!
//! # Where to start reading
//!
//! `src/core/visit.rs` and `src/core/worker.rs`, top to bottom: they are the life of a connection. Then [`seat::Seat`],
//! which decides, and `src/core/timer.rs`, which watches the time.

#![warn(missing_docs)]

pub mod guide;
#[cfg(feature = "server")]
pub mod lesson;

#[cfg(feature = "cluster")]
pub use portal_backplane as cluster;
#[cfg(all(unix, feature = "check"))]
pub use portal_check as check;
#[cfg(feature = "client")]
pub use portal_client as client;
#[cfg(feature = "server")]
pub use {
    portal_accounts as accounts, portal_board as board,
    portal_core::{self as core, clock, hall, outbox, seat, tick, wake},
    portal_net as net,
    portal_server::{event, limits, program, start as server},
    portal_wire as wire,
};

/// What the fuzzers in `tests/fuzz` reach that nobody else needs to.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing {
    pub use crate::accounts::read_accounts;
    pub use crate::client::{read_arguments, read_typed};
}

#[doc = include_str!("protocol.md")]
pub mod protocol {}
