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
//! | crate | what it has | what it does not know |
//! |---|---|---|
//! | `portal-chat` (this one) | the server's threads and all that is not in a crate of its own yet: see below | |
//! | `portal-board` ([`board`]) | a page that shows the inside of a running server, or of a recorded run | anything but events |
//! | `portal-check` ([`check`]) | the program `chatcheck`: checks a server that a student has written, a rung of the ladder at a time | how this server does it |
//! | `portal-client` ([`client`]) | the program `chatclient`: finds a seat, edits lines, shows what arrives | the server |
//! | `portal-lesson` ([`lesson`]) | the smallest servers, which teach one thing each; [the ladder](lesson::ladder) leads from them to here | everything else |
//! | `portal-accounts` ([`accounts`]) | names and passwords in a file | who is here |
//! | `portal-tls` (with the feature `tls`) | certificates and fingerprints, and whom a client believes | sockets |
//! | `portal-cli` | what the programs share: command lines, text files that people edit, output that can fail, signals, the terminal | what the programs do |
//! | `portal-core` ([`seat`], [`hall`], [`outbox`], [`clock`], [`tick`], [`wake`], `event`) | the core: the states of a seat, passcodes, the workload stack; who is here; the way to a client's socket; time in ticks; events | browsers, other servers, files, programs |
//! | `portal-net` ([`net`]) | the sockets and what std's lack, TLS below a stream (`--trace` and `--chop` are here); locks with a checked order | what is sent |
//! | `portal-wire` ([`wire`]) | what travels: frames, documents, XML, names, text that is safe to show | sockets, locks, threads |
//!
//! The modules of this crate, in the order in which a connection meets them:
//!
//! | module | what it is | what it must not know |
//! |---|---|---|
//! | [`program`] | the program `chatserver`: command line, operator's console | |
//! | [`server`] | every thread of the server, in `server/threads`; what a client says, in `server/session`; the seats, the rooms' ports, what keeps one client from costing the others (`server/guard`) | the program around it |
//! | [`event`] | the console and the event file; the kinds of events that the program emits itself | how to make them happen |
//! | `web` | the page on which people chat, and as much HTTP as it and the board need, up to the WebSocket | what is said over it |
//! | [`cluster`] | the other servers of a chat of several, behind a Redis (with the feature of that name) | sockets and sessions: it hands what comes to whoever hears it |
//! | [`guide`] | pages about using it, its security, the seeds, how to contribute | |
//! | [`limits`] | every limit with its reason: those of this crate, and those of the others | |
//!
//! [`protocol`] says what travels, byte for byte. `tests/transcripts` plays each rule.
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
//! Alice's worker reads it (`server/session/turn.rs`, `Session::run`) as a document
//! ([`wire::Codec::read_client`]). What that means is up to the session's role
//! (`server/session/at_worker.rs`, or `in_room.rs`). What is said is gathered (`server/session/speaker.rs`)
//! and, at the turn's end, written for each codec among those who hear it ([`hall::Said`]) and into each
//! one's socket ([`outbox::Outbox::send`]). One read, one write, one thread. Only if
//! the partner's socket is full does a second thread, the partner's timekeeper, come into it.
//!
//! A browser's message takes the same path: its thread (`server/threads/web.rs`) took the seat off the stack, and from the
//! passcode on it is a session like any other, over another framing (`wire/websocket.rs`).
//!
//! With `--cluster`, what is public or for a room goes to the engine instead ([`cluster::Cluster::say`], by
//! `server/session/speaker.rs`), and everybody hears it when `cluster-in` reads it back (`server/here.rs`).
//!
//! # A new command
//!
//! TOPIC is an example; `git grep -il topic src` lists all its files. Without other servers it is a row for
//! each of its documents (`wire/client_doc.rs`, `wire/server_doc.rs`), what a room remembers of it and how
//! it tells it (`core/hall/room.rs`), who may say so and who hears it, now and on coming in
//! (`core/hall/rooms.rs`), one arm of the match and a word to who joins (`server/session/at_worker.rs`); for
//! our client a row of what can be typed (`client/commands.rs`) and what is shown of the answer
//! (`client/chat/heard.rs`).
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
//! `server/threads/worker.rs`, top to bottom: it is the life of a connection. Then [`seat::Seat`], which
//! decides, and `server/threads/timer.rs`, which watches the time.

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
