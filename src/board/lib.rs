//! The board: a page that shows the inside of a server (`--board`).
//!
//! ```text
//!  every thread ─event─▶ queue ──▶ board-feed ─update─▶ viewer-1's queue ──▶ viewer-1 ──▶ browser
//!                                  (the snapshot)       viewer-2's queue ──▶ viewer-2 ──▶ browser
//! ```
//!
//! The page is built into the program. The thread `board-8050` accepts connections. Each connection
//! has its own thread, which answers one `GET`; if the request is for events, the thread keeps
//! writing updates. `board-feed` builds a snapshot only from events, so the same code shows a
//! recorded run (`chatserver replay`). Each event is sent with its changes to the snapshot, so the
//! page can step forward and back one event at a time.
//!
//! The page has no framework and no build step. Its scripts, in the order in which they are loaded:
//!
//! | script | does |
//! |---|---|
//! | `parts.js` | small helpers, and the state that the page shows |
//! | `story.js` | explains events and bytes |
//! | `states.js` | draws the states of a seat |
//! | `threads.js` | lists the threads, and the call that each is blocked in |
//! | `timeline.js` | keeps the events, and the position that the page shows |
//! | `scene.js` | draws the actors in a state |
//! | `flights.js` | animates what passes between them at an event |
//! | `ladder.js` | draws the sequence diagram |
//! | `board.js` | the stream, the list of events, views, buttons and keys |
//!
//! The board must not delay the chat; see [`portal_core::event::TrafficGate`] and `feed.rs`.

mod feed;
pub mod limits;
mod redactor;
mod snapshot;
mod viewers;

pub use redactor::Redactor;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::json;

use feed::{EventLog, Feed};
use portal_core::event::{Event, EventQueue, Events};
use portal_net::limits::ACCEPT_BACKOFF;
use portal_net::{
    Listener, Pending, PendingConnections, PendingLimits, Port, Stream, Tap, TlsServer,
};
use portal_web::event::{EntranceEvent, emit_refused};
use portal_web::http::{self, Hosts, Refusal, RefusedRequest, Request, Rules};
use portal_web::status::{self, Status};
use viewers::{Viewers, Watching};

/// Time without an update after which a viewer gets a keepalive comment.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Recorded events that are at most this far apart form one update, because a viewer could not see
/// the difference.
const TOGETHER: Duration = Duration::from_millis(40);

/// The files of the page: path, content type and content.
const PARTS: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/board.html"),
    ),
    (
        "/board.css",
        "text/css; charset=utf-8",
        include_str!("page/board.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/parts.js", JAVASCRIPT, include_str!("page/parts.js")),
    ("/story.js", JAVASCRIPT, include_str!("page/story.js")),
    ("/states.js", JAVASCRIPT, include_str!("page/states.js")),
    ("/threads.js", JAVASCRIPT, include_str!("page/threads.js")),
    ("/timeline.js", JAVASCRIPT, include_str!("page/timeline.js")),
    ("/scene.js", JAVASCRIPT, include_str!("page/scene.js")),
    ("/flights.js", JAVASCRIPT, include_str!("page/flights.js")),
    ("/ladder.js", JAVASCRIPT, include_str!("page/ladder.js")),
    ("/board.js", JAVASCRIPT, include_str!("page/board.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A running board.
pub struct Board {
    shared: Arc<BoardState>,
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
    /// Never used to send; dropping it wakes the viewers of a replay.
    stop: Option<Sender<()>>,
}

struct BoardState {
    source: Source,
    redactor: Redactor,
    stopped: Receiver<()>,
    is_stopping: AtomicBool,
    /// Connections that have not requested events yet.
    callers: Arc<PendingConnections>,
    viewers: Arc<Viewers>,
    /// The server's status, which the board serves in addition to its own paths. Set at most once.
    status: OnceLock<Arc<dyn Status>>,
    port: Port,
    rules: Rules,
    /// Receives the events for refused requests. A replay has none.
    events: Option<Events>,
}

enum Source {
    /// A running server.
    Live(Box<Feed>),
    /// A recorded run, and the speed factor of its replay.
    Recorded(Vec<Event>, f64),
}

impl Board {
    /// Serves a page at `address` that shows future `events`. Browsers may request the page by
    /// address, as `localhost`, or by one of `names`. Like every event reader, the board must be
    /// created before the server. Only readers created before the board receive events about the
    /// requests that it refuses.
    ///
    /// # Errors
    /// The address can't be bound, or the system can't start a thread.
    pub fn live(
        address: SocketAddr,
        events: &mut Events,
        redactor: Redactor,
        tls: Option<&TlsServer>,
        names: &[String],
    ) -> io::Result<Board> {
        let listener = Listener::bind(address, &Tap::default())?.secured(tls);
        // This clone does not include the board's own queue, which must be closed when the server
        // stops.
        let told = events.clone();
        let (queue, gate) = events.add_gated_reader(limits::BOARD_QUEUE);
        let source = Source::Live(Box::new(Feed::new(gate, redactor)));
        Board::start(listener, source, redactor, Some((queue, told)), names)
    }

    /// Serves a page that shows a recorded run. Each viewer has its own replay.
    ///
    /// # Errors
    /// The same errors as [`Board::live`].
    pub fn replay(
        address: SocketAddr,
        recording: Vec<Event>,
        speed: f64,
        redactor: Redactor,
    ) -> io::Result<Board> {
        let listener = Listener::bind(address, &Tap::default())?;
        Board::start(
            listener,
            Source::Recorded(recording, speed),
            redactor,
            None,
            &[],
        )
    }

    fn start(
        listener: Listener,
        source: Source,
        redactor: Redactor,
        events: Option<(EventQueue, Events)>,
        names: &[String],
    ) -> io::Result<Board> {
        let (queue, events) = events.unzip();
        let (stop, stopped) = bounded(0);
        let shared = Arc::new(BoardState {
            source,
            redactor,
            stopped,
            is_stopping: AtomicBool::new(false),
            callers: Arc::new(PendingConnections::new(PendingLimits::default())),
            viewers: Arc::new(Viewers::new(limits::VIEWERS)),
            status: OnceLock::new(),
            port: listener.port(),
            rules: Rules {
                hosts: Hosts::new(names),
                ..Rules::default()
            },
            events,
        });
        let mut board = Board {
            listener: Arc::new(listener),
            threads: Vec::new(),
            stop: Some(stop),
            shared,
        };
        // From now on, a failure drops the board, which stops the threads.
        if let Some(queue) = queue {
            let shared = Arc::clone(&board.shared);
            board.spawn("board-feed".to_owned(), move || {
                if let Source::Live(feed) = &shared.source {
                    feed.serve(&queue, &shared.stopped);
                }
            })?;
        }
        let (shared, listener) = (Arc::clone(&board.shared), Arc::clone(&board.listener));
        let name = format!("board-{}", board.address().port());
        board.spawn(name, move || accept(&shared, &listener))?;
        Ok(board)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(portal_net::threads::start(name, run)?);
        Ok(())
    }

    /// Returns the address of the page.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Makes the board also answer requests for the server's status.
    pub fn answer_status(&self, status: Arc<dyn Status>) {
        // A second status would belong to the same server, so ignore it.
        let _ = self.shared.status.set(status);
    }

    /// Returns the current number of viewers.
    pub fn watching(&self) -> usize {
        self.shared.viewers.count()
    }

    /// Stops the board. It still shows the events that are already queued, so stop the server
    /// first.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        drop(self.stop.take());
        self.listener.wake();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.shared.viewers.end(limits::SHUTDOWN_PATIENCE);
        self.shared.callers.end(limits::SHUTDOWN_PATIENCE);
    }
}

/// Runs the thread `board-8050`, which starts a thread for each connection.
fn accept(shared: &Arc<BoardState>, listener: &Listener) {
    let is_over = || shared.is_stopping.load(Ordering::Acquire);
    let serve = |stream, _| welcome(shared, stream);
    // Without a pause, this would fail half a million times per second.
    let rest = |_: &io::Error| std::thread::sleep(ACCEPT_BACKOFF);
    listener.accept_each(is_over, serve, rest);
}

fn welcome(shared: &Arc<BoardState>, stream: Stream) {
    let serving = Arc::clone(shared);
    let share = shared.rules.share_of(stream.peer());
    shared
        .callers
        .admit(stream, share, "viewer", move |caller| {
            let stream = caller.stream().share();
            // A browser may close the connection at any time.
            let _ = serve(&serving, caller);
            stream.close();
        });
}

fn serve(shared: &BoardState, caller: Pending) -> io::Result<()> {
    let stream = &caller.stream().share();
    if let Err(error) = caller.handshake() {
        http::refuse_plain_text(stream, &error);
        if let Some(events) = shared.events.as_ref().filter(|_| stream.is_secured()) {
            let (port, peer, error) = (shared.port, stream.peer(), error.to_string());
            events.emit(|| EntranceEvent::TlsFailed { port, peer, error });
        }
        return Ok(());
    }
    let request = match http::read_request(&caller, &shared.rules)? {
        Ok(request) => request,
        Err(refused) => return refuse(shared, stream, &refused),
    };
    match request.path.as_str() {
        "/events" if request.is_head => http::begin_events(stream),
        "/events" => {
            let watching = shared.viewers.add(stream);
            // The connection is now a viewer, so it is no longer pending.
            drop(caller);
            http::begin_events(stream)?;
            match &shared.source {
                Source::Live(feed) => show(shared, feed, stream, &watching),
                Source::Recorded(recording, speed) => {
                    play(shared, recording, *speed, &request, stream, &watching)
                }
            }
        }
        path => match PARTS.iter().find(|(there, ..)| *there == path) {
            Some((_, kind, part)) => http::answer(stream, &request, kind, part),
            None => {
                let status = shared.status.get();
                let answer = status.and_then(|status| status::answer(stream, &request, &**status));
                answer
                    .unwrap_or_else(|| refuse(shared, stream, &request.refused(Refusal::NotFound)))
            }
        },
    }
}

fn refuse(shared: &BoardState, stream: &Stream, refused: &RefusedRequest) -> io::Result<()> {
    if let Some(events) = &shared.events {
        emit_refused(events, refused, shared.port);
    }
    http::refuse_request(stream, refused)
}

/// Shows a running server until the server stops or the viewer is evicted.
fn show(shared: &BoardState, feed: &Feed, stream: &Stream, watching: &Watching) -> io::Result<()> {
    while let Some((so_far, news)) = feed.watch() {
        http::send_event(stream, "news", &so_far)?;
        loop {
            select! {
                recv(news) -> news => match news {
                    Ok(news) => http::send_event(stream, "news", &news)?,
                    // The viewer is too slow, or the server has stopped.
                    Err(_) => break,
                },
                recv(watching.evicted) -> _ => return Ok(()),
                default(KEEP_ALIVE) => http::keep_alive(stream)?,
            }
        }
        if shared.is_stopping.load(Ordering::Acquire) {
            break;
        }
    }
    http::send_event(stream, "end", "{}")
}

/// Replays a recorded run. The request may set the first event (`from`), the speed and the maximum
/// number of events (`count`).
fn play(
    shared: &BoardState,
    events: &[Event],
    speed: f64,
    request: &Request,
    stream: &Stream,
    watching: &Watching,
) -> io::Result<()> {
    let wanted = request
        .number("speed")
        .filter(|speed: &f64| speed.is_finite());
    let given = speed.clamp(0.01, 1000.0);
    let speed = wanted.unwrap_or(given).clamp(0.01, 1000.0);
    let from = request.number("from").unwrap_or(0).min(events.len());
    let count = request.number("count").unwrap_or(events.len());
    let until = from.saturating_add(count).min(events.len());
    // The page may fetch events faster than it shows them; it begins at the given speed.
    let at = |at: usize| json!({ "at": at, "count": events.len(), "speed": given });

    let mut log = EventLog::new(shared.redactor);
    for event in &events[..from] {
        log.take_in(event.clone());
    }
    http::send_event(stream, "news", &log.so_far(&at(from)))?;
    let mut next = from;
    while next < until {
        let since = |index: usize| {
            let before = index.checked_sub(1).and_then(|index| events.get(index));
            let before = before.map_or(events[index].time, |event| event.time);
            let pause = events[index]
                .time
                .duration_since(before)
                .unwrap_or_default()
                .as_secs_f64()
                / speed;
            // Two runs in one file may be days apart.
            Duration::from_secs_f64(pause.clamp(0.0, LONGEST_PAUSE))
        };
        if next > from && !wait(shared, stream, watching, since(next))? {
            return Ok(());
        }
        let mut shown: Vec<Arc<str>> = Vec::new();
        loop {
            shown.push(log.take_in(events[next].clone()));
            next += 1;
            if next == until || since(next) > TOGETHER || shown.len() == feed::REMEMBERED {
                break;
            }
        }
        let rest = json!({ "replay": at(next) });
        http::send_event(stream, "news", &feed::news(&shown, &rest))?;
    }
    http::send_event(stream, "end", "{}")
}

/// Maximum pause between two events in a replay, in seconds.
const LONGEST_PAUSE: f64 = 60.0;

/// Waits, sending keepalive comments to the viewer in the meantime. Returns `false` if the board is
/// shutting down or the viewer was evicted.
fn wait(
    shared: &BoardState,
    stream: &Stream,
    watching: &Watching,
    mut pause: Duration,
) -> io::Result<bool> {
    while !pause.is_zero() {
        let part = pause.min(KEEP_ALIVE);
        select! {
            recv(shared.stopped) -> _ => return Ok(false),
            recv(watching.evicted) -> _ => return Ok(false),
            default(part) => {}
        }
        pause -= part;
        if !pause.is_zero() {
            http::keep_alive(stream)?;
        }
    }
    Ok(true)
}
