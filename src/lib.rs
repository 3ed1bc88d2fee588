//! A chat server with one thread per connection, made to be read and to be used.
//!
//! A client connects to the *portal* first. The portal takes a port off the *workload stack* and
//! replies with the port and a one-time *passcode*. A *worker* listens on that port: one thread for
//! one client. It admits the first client that sends the right passcode. The client then chats with
//! its *partner* in the neighbouring seat. A *ticker* emulates the clock interrupt: every timeout
//! is a number of its ticks.
//!
//! # The map
//!
//! The project is a workspace of crates in `src`. A crate can use only the crates that its
//! `Cargo.toml` lists, all of which are below it in this table.
//!
//! | crate | contains | does not know |
//! |---|---|---|
//! | `portal-chat` (this one) | the three programs, the [`guide`], the ladder of lessons | |
//! | `portal-server` ([`program`], [`server`], [`event`]) | the program `chatserver`: options, the operator's console, signals, event files; starts the threads of all other crates | |
//! | `portal-check` ([`check`]) | the program `chatcheck`, which checks a student's own server, one rung of the ladder at a time | how this server works |
//! | `portal-client` ([`client`]) | the program `chatclient`, which gets a seat, edits lines and shows what arrives | how the server works |
//! | `portal-lesson` ([`lesson`]) | the echo servers of the first rungs; [the ladder](lesson::ladder) leads from them to this server | the server |
//! | `portal-rungs` | seven small servers, one file for each of the first seven rungs | everything else |
//! | `portal-backplane` ([`cluster`], with the feature `cluster`) | several servers as one chat, over Redis | the clients' connections |
//! | `portal-journal` ([`journal`], with the feature `journal`) | messages and topics that survive a restart, in an SQLite database | who may read them |
//! | `portal-board` ([`board`]) | a web page that shows the inside of a running server, or of a recorded run | anything but events |
//! | `portal-entrances` | browsers, the single port, callbacks, the TLS portal, and the protocols that clients use there | the rules of a session |
//! | `portal-web` | HTTP, as far as the chat page and the board need it, the chat page, and the paths of `--metrics` | the chat protocol |
//! | `portal-accounts` ([`accounts`]) | names and passwords in a file; bans, mutes, moderators and invitations in another | who is connected |
//! | `portal-tls` (with the feature `tls`) | certificates, fingerprints, and the servers that a client trusts | sockets |
//! | `portal-cli` | command lines, text files that people edit, output that can fail, signals, the terminal | what the programs do |
//! | `portal-sessions` ([`sessions`]) | what the clients do in their seats: requests and replies, names, rooms, history, moderation | browsers, TLS, other servers, files |
//! | `portal-core` ([`core`]) | the server of the design card: portal, workers, seats, ticker, timers, output to sockets | what the clients say |
//! | `portal-net` ([`net`]) | sockets, and what std's sockets lack; TLS below a stream; `--trace` and `--chop`; locks with a checked order | what is sent |
//! | `portal-wire` ([`wire`]) | frames, documents, names, text that is safe to show | sockets, locks, threads |
//!
//! The core, in the order in which a connection passes through it:
//!
//! | module | contains |
//! |---|---|
//! | [`core::portal`], [`core::seats`], [`seat`] | the portal; the workload stack and the clients in the seats; the states of one seat and its passcode, without sockets |
//! | [`core::worker`], [`core::visit`], [`core::sockets`] | a worker's port; the life of a connection; how a socket becomes a connection |
//! | [`core::transport`], [`core::handshake`] | the form of a connection's documents: XML lines here, others in `portal-entrances`; the first frame |
//! | [`core::service`] | the interface to what a client does in its seat |
//! | [`outbox`], [`notify`], [`core::timer`], [`core::liveness`] | output to a client's socket; the threads that flush full sockets and enforce deadlines |
//! | [`clock`], [`tick`] | time in ticks |
//! | [`core::event`] | events, for the console, the event file, the board and the tests |
//! | [`core::guard`], [`core::panics`], [`core::limits`] | protection of each client from the others |
//!
//! The sessions in the seats:
//!
//! | module | contains |
//! |---|---|
//! | [`sessions::state`], [`sessions::turn`], [`sessions::at_worker`] | the state that all sessions share; a client's requests and the replies to them |
//! | [`chat`], [`sessions::room_manager`], [`sessions::room_threads`] | the clients by pairs, names and rooms; a room's port and threads |
//! | [`sessions::accounts`], [`sessions::policies`], [`sessions::backplane`] | the interfaces to accounts, to bans and mutes, and to other servers |
//! | [`sessions::moderation`] | removing, banning and muting clients |
//! | [`sessions::journal`] | ids of messages, the interface to the journal that keeps them, and the journal in memory |
//!
//! [`protocol`] specifies the protocol, byte for byte. `tests/transcripts` plays each rule.
//! [`limits`] lists every limit and the reason for it.
//!
//! # The threads
//!
//! Each thread waits for work in one place, named in the table. On the way, it may also wait for a
//! full socket, a tick or another server's reply, for a limited time. Its name shows its purpose in
//! `top -H`, in `ps -T` and in every event line.
//!
//! | thread | how many | blocks on | does |
//! |---|---|---|---|
//! | `main` | 1 | the channels of signals and typed lines | starts the other threads, runs the operator's commands, waits for the other threads to end |
//! | `ticker` | 1 | its stop channel, one tick at a time | advances the clock, broadcasts the tick |
//! | `liveness` | 1 | its channel of ticks | checks whether the clients' kernels still acknowledge data, and ends the sessions of vanished clients |
//! | `portal-tcp`, `portal-udp` | 1 each | `accept`, `recv_from` | reserves a seat, replies |
//! | `portal-tls-1` … | at most 64, together with `browser-…` without a seat and `full-…` | `read` | completes a TLS handshake, then does the portal's work |
//! | `worker-50001` … | 1 per port | `accept`, then `read` | admits one client (or connects to it: `connect`), reads its documents, delivers its messages |
//! | `late-workers` | 1, if a worker's port was busy at startup | the ticks | tries these ports again, and starts their workers |
//! | `timer-50001` … | 1 per port | its channel: ticks, notifications, the stop signal | enforces the seat's deadlines, flushes output that did not fit into a full socket |
//! | `full-1` … | see `portal-tls-1` | `read` | sends FULL over TLS when the single port is full |
//! | `single-50000`, `seat-1` … | with `--single-port`: 1, and 1 per client | `accept`, `read` | replaces the portal and the workers |
//! | `web-8080` | 1, with `--web` | `accept` | accepts browsers |
//! | `browser-1` … | 1 per browser in a seat; without a seat, see `portal-tls-1` | `read` | replies to its `GET`, or is portal and worker for it |
//! | `room-50005` | 1 per room | `accept` | accepts members; at the end waits for the room's threads and frees the port |
//! | `timer-50005` | 1 per room | its channel | expires reservations |
//! | `member-1` …, `writer-50005` | 1 each per member; before the passcode, see `portal-tls-1` | `read`, its channel | works like a worker and its timer |
//! | `metrics-9464` | 1, with `--metrics` | `accept` | accepts programs that ask for the state of the server |
//! | `scrape-1` … | at most 64 | `read` | answers one of them |
//! | `console`, `event-file` | 1 each | their queue of events | writes them, so that no other thread waits for a terminal or a disk |
//! | `board-8050`, `board-feed` | 1 each, with `--board` | `accept`, its queue of events | accepts viewers; turns events into the board's state |
//! | `cluster-out` | 1, with `--cluster` | its queue | sends this server's requests to Redis, and renews its lease |
//! | `cluster-in` | 1, with `--cluster` | the streams in Redis | delivers what other servers have published |
//! | `journal` | 1, with `--journal` | its queue of messages | writes them into the database, and deletes what is too old |
//! | `viewer-1` … | at most 100 that watch the board, and 64 that have not sent a request yet | its queue of updates | writes them into the browser's socket |
//! | `keys` | 1, at a terminal | the terminal | sends the keys to `main`, which edits the line and draws it |
//! | `signals` | 1 | a signal | the first one shuts the server down in an orderly way, the second one immediately |
//!
//! # Words
//!
//! The terms to which this project gives its own meaning. The [glossary](guide::glossary) lists
//! them too, along with the terms commonly used in the field.
//!
//! | word | meaning |
//! |---|---|
//! | seed | one of the five documents, 000 to 004, from which this project grew; [`guide::seeds`] has the command that starts each one's server |
//! | ladder, rung | the lessons, and one step of them |
//! | portal | the port to which every client connects first |
//! | worker | a thread with its own port, for one client at a time |
//! | seat | a worker's place for one client, with its states from free to closing |
//! | passcode | the portal sends it to a client, which sends it to the worker; valid for one connection |
//! | workload stack | the ports of the free seats; the port that was freed last is taken first |
//! | partner | the client in the neighbouring seat |
//! | tick | the unit of the clock |
//! | visit | the life of a connection: from its seat through the session to the cleanup |
//! | entrance | a way to a seat: the portal, a browser, the single port, a callback |
//! | outbox | the output queue of one client's socket; it spills if the socket is full |
//! | backplane | the connection to the other servers of a cluster |
//! | journal | the messages and topics that are kept: the last lines of each conversation in memory, more of them in a file |
//!
//! # The path of a message
//!
//! Alice's worker reads (`Session::run`, `src/sessions/turn.rs`). Her decoder turns the bytes into
//! documents ([`core::transport::Decoder`]). The session's role decides what each one means
//! (`src/sessions/at_worker.rs`, or `in_room.rs`). `Outgoing` collects the messages
//! (`src/sessions/outgoing.rs`). At the end of the turn (one read and every frame in it), they are
//! encoded once for each encoding that the recipients use ([`chat::MessageBatch`]) and written into
//! each recipient's socket (`Outbox::send_encoded`, `src/core/outbox.rs`). One read, one write, one
//! thread. A recipient's timer thread writes instead if its socket is full, or if many members of a
//! group talk at once.
//!
//! A browser's message takes the same path. Its thread (`src/entrances/browser.rs`) took the seat
//! off the stack; after the passcode it runs a session like any other, over another transport
//! (`src/entrances/web_socket.rs`).
//!
//! With `--cluster`, public messages and room messages are sent to Redis instead
//! ([`sessions::backplane::Backplane::publish`]), and all recipients receive them when the thread
//! `cluster-in` reads them back (`src/sessions/local_delivery.rs`).
//!
//! # A new command
//!
//! TOPIC is an example; `git grep -il topic src` lists the files that mention it. A command that
//! involves only one server needs changes in only a few of them: [`guide::contributing`] lists
//! those.
//!
//! # The locks
//!
//! A thread may take a lock only if its rank is further down in this table than that of every lock
//! the thread holds; it must never hold two of the same rank. Debug builds check this
//! (`src/net/lock.rs`), so a violation fails a test.
//!
//! | rank | locks | why others are taken under it |
//! |---|---|---|
//! | `Registry` | a pair's, the users', the rooms' | joins and departures reach everyone in one order: they are appended to outboxes, and names are looked up |
//! | `PendingReplies` | one client's replies that depend on other servers | replies are appended to the outbox in request order |
//! | `ReserveFd` | the reserved descriptor | it accepts one caller without waiting and sends it FULL |
//! | `Outbox` | one client's outbox | output is encrypted and written to the socket in one order |
//! | `Tls` | one connection's TLS | |
//! | `ClusterState` | whether the connections to Redis work | messages read so far are processed when they work again |
//! | `AccountsFile` | the accounts file, the policies file, the tokens file (never two) | an account or a rule is valid once it is on disk |
//! | `Leaf` | a seat's, the workload stack, the rooms' ports, seats per address, the settings that SIGHUP changes, identities, pending callers, the board's viewers, the journal in memory, the queue of `journal`, and all others | nothing |
//!
//! Only `Outbox`, `Tls` and `ReserveFd` may be held during a read from or a write to a socket;
//! debug builds check this, too. That read or write must not block. (Nor does the look at the first
//! bytes of a caller that waits for a thread, under the lock of these callers.) No lock is held
//! while a thread is started or joined, or while a listener is bound. A closure that runs under a
//! lock (`with_seat`, `with`) takes only locks further down; the observers
//! ([`core::event::EventObserver`], [`net::threads::ThreadObserver`]) take none.
//!
//! # Where to start reading
//!
//! Read `src/core/visit.rs` and `src/core/worker.rs` from top to bottom: they cover the lifetime of
//! a connection. Then [`seat::Seat`], which makes the decisions, and `src/core/timer.rs`, which
//! enforces the deadlines.

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
#[cfg(feature = "journal")]
pub use portal_journal as journal;
#[cfg(feature = "server")]
pub use {
    portal_accounts as accounts, portal_board as board,
    portal_core::{self as core, clock, notify, outbox, seat, tick},
    portal_net as net,
    portal_server::{event, limits, metrics, program, start as server},
    portal_sessions::{self as sessions, chat},
    portal_wire as wire,
};

/// Private functions that the fuzzers in `tests/fuzz` call.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing {
    pub use crate::accounts::read_accounts;
    pub use crate::client::{read_arguments, read_typed};
}

#[doc = include_str!("protocol.md")]
pub mod protocol {}
