//! The server's status for monitoring programs: its health (`/healthz`), its readiness for new
//! clients (`/readyz`), and its metrics for Prometheus (`/metrics`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portal_net::limits::ACCEPT_BACKOFF;
use portal_net::{
    Listener, Pending, PendingConnections, PendingLimits, Stream, Tap, TlsServer, threads,
};

use crate::http::{self, Hosts, Refusal, Request, Rules};

/// Prometheus's text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Maximum time that shutdown waits for requests in progress.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// The status of a server. Requests can only read it.
pub trait Status: Send + Sync {
    /// Checks whether the server works.
    ///
    /// # Errors
    /// The reason why it does not.
    fn health(&self) -> Result<(), String>;

    /// Checks whether a new client would get a seat.
    ///
    /// # Errors
    /// The reason why it would not.
    fn readiness(&self) -> Result<(), String>;

    /// Returns all metrics in Prometheus's text format.
    fn metrics(&self) -> String;
}

/// Answers a request for `/healthz`, `/readyz` or `/metrics`. Returns `None` for any other path.
pub fn answer(stream: &Stream, request: &Request, status: &dyn Status) -> Option<io::Result<()>> {
    let state = match request.path.as_str() {
        "/healthz" => status.health(),
        "/readyz" => status.readiness(),
        "/metrics" => {
            return Some(http::answer(stream, request, EXPOSITION, &status.metrics()));
        }
        _ => return None,
    };
    let (code, text) = match state {
        Ok(()) => ("200 OK", "ok".to_owned()),
        Err(reason) => ("503 Service Unavailable", reason),
    };
    let text = text + "\n";
    Some(http::answer_with(stream, request, code, PLAIN, &text))
}

/// A listener that answers only these requests (`--metrics`).
pub struct StatusServer {
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    status: Arc<dyn Status>,
    callers: Arc<PendingConnections>,
    rules: Rules,
    is_stopping: AtomicBool,
}

impl StatusServer {
    /// Starts a listener at `address`. The Host of a request may be an address, `localhost` or one
    /// of `names`.
    ///
    /// # Errors
    /// The address can't be bound, or the system can't start a thread.
    pub fn start(
        address: SocketAddr,
        status: Arc<dyn Status>,
        tls: Option<&TlsServer>,
        names: &[String],
    ) -> io::Result<StatusServer> {
        let listener = Listener::bind(address, &Tap::default())?.secured(tls);
        let mut server = StatusServer {
            listener: Arc::new(listener),
            shared: Arc::new(Shared {
                status,
                callers: Arc::new(PendingConnections::new(PendingLimits::default())),
                rules: Rules {
                    hosts: Hosts::new(names),
                    ..Rules::default()
                },
                is_stopping: AtomicBool::new(false),
            }),
            thread: None,
        };
        let (shared, listener) = (Arc::clone(&server.shared), Arc::clone(&server.listener));
        let name = format!("metrics-{}", server.address().port());
        server.thread = Some(threads::start(name, move || accept(&shared, &listener))?);
        Ok(server)
    }

    /// Returns the address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.listener.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.callers.end(SHUTDOWN_PATIENCE);
    }
}

/// Runs the thread `metrics-…`, which starts a thread for each connection.
fn accept(shared: &Arc<Shared>, listener: &Listener) {
    let is_over = || shared.is_stopping.load(Ordering::Acquire);
    let serve = |stream: Stream, _| {
        let serving = Arc::clone(shared);
        let share = shared.rules.share_of(stream.peer());
        shared
            .callers
            .admit(stream, share, "scrape", move |caller| {
                let stream = caller.stream().share();
                // The client may close the connection at any time.
                let _ = serve(&serving, &caller);
                stream.close();
            });
    };
    let rest = |_: &io::Error| std::thread::sleep(ACCEPT_BACKOFF);
    listener.accept_each(is_over, serve, rest);
}

fn serve(shared: &Shared, caller: &Pending) -> io::Result<()> {
    let stream = &caller.stream().share();
    if let Err(error) = caller.handshake() {
        http::refuse_plain_text(stream, &error);
        return Ok(());
    }
    match http::read_request(caller, &shared.rules)? {
        Err(refused) => http::refuse_request(stream, &refused),
        Ok(request) => answer(stream, &request, &*shared.status)
            .unwrap_or_else(|| http::refuse_request(stream, &request.refused(Refusal::NotFound))),
    }
}
