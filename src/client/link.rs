//! A connection to a worker or to a room, after the handshake. Its own thread reads, and the main
//! thread writes.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use super::seek::ClientSeat;
use portal_net::limits::THREAD_STACK;
use portal_net::{Connector, Host, Stream};
use portal_wire::{Codec, FrameReader};

/// Identifies a link. Numbers are not reused, so late events from an abandoned link are not
/// mistaken for events from the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkId {
    /// A link to a worker.
    Main(u64),
    /// A link to a room.
    Room(u64),
}

/// An event from a listener thread.
pub(super) enum LinkEvent {
    Frame(Vec<u8>),
    /// The connection has ended, for this reason. No event follows.
    Over(String),
}

/// A connection to a worker or a room. Dropping it shuts the socket down and joins the listener.
pub(super) struct Link {
    id: LinkId,
    stream: Arc<Stream>,
    closing: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    codec: Codec,
    dial: Connector,
}

impl Link {
    /// Starts the listener thread on a seat. It sends its events to `events`, marked with `id`.
    ///
    /// # Errors
    ///
    /// An I/O error if the system can't start a thread.
    pub(super) fn start(
        seat: ClientSeat,
        id: LinkId,
        events: Sender<(LinkId, LinkEvent)>,
    ) -> io::Result<Link> {
        let stream = Arc::new(seat.stream);
        let closing = Arc::new(AtomicBool::new(false));
        let listening = LinkReader {
            id,
            stream: Arc::clone(&stream),
            closing: Arc::clone(&closing),
            events,
        };
        let (name, frames) = ("listener".to_owned(), seat.frames);
        let listener = Builder::new()
            .name(name)
            .stack_size(THREAD_STACK)
            .spawn(move || listening.listen(frames))?;
        Ok(Link {
            id,
            stream,
            closing,
            listener: Some(listener),
            codec: seat.codec,
            dial: seat.dial,
        })
    }

    pub(super) fn id(&self) -> LinkId {
        self.id
    }

    /// The encoding of documents on this link.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The connector for other connections to the same server.
    pub(super) fn dial(&self) -> &Connector {
        &self.dial
    }

    /// The server's address, as seen from this machine.
    pub(super) fn server(&self) -> Host {
        self.stream.peer().into()
    }

    /// Sends a frame in one write.
    ///
    /// # Errors
    ///
    /// The socket's error. The link is then unusable, because part of the frame may have been sent.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(frame)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// The state of the listener thread.
struct LinkReader {
    id: LinkId,
    stream: Arc<Stream>,
    closing: Arc<AtomicBool>,
    events: Sender<(LinkId, LinkEvent)>,
}

impl LinkReader {
    fn listen(self, mut frames: FrameReader) {
        let reason = loop {
            match frames.next_frame() {
                Ok(Some(frame)) => {
                    if !self.emit(LinkEvent::Frame(frame.to_vec())) {
                        return;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => break error.to_string(),
            }
            match frames.read_from(&mut &*self.stream) {
                Ok(0) => break "the server closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        self.emit(LinkEvent::Over(reason));
    }

    /// Sends an event to the main thread. If that thread is slow, the data waits in the socket, and
    /// then at the sender. Returns whether to continue. All links share the channel, so a full
    /// channel must not block forever: the main thread may be waiting for this thread to exit.
    fn emit(&self, mut events: LinkEvent) -> bool {
        const PATIENCE: Duration = Duration::from_millis(100);
        loop {
            match self.events.send_timeout((self.id, events), PATIENCE) {
                Ok(()) => return true,
                Err(SendTimeoutError::Disconnected(_)) => return false,
                Err(SendTimeoutError::Timeout(_)) if self.closing.load(Ordering::Acquire) => {
                    return false;
                }
                Err(SendTimeoutError::Timeout((_, again))) => events = again,
            }
        }
    }
}
