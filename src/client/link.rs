//! A connection to a worker or to a room, once seated: a thread of its own listens, the main thread
//! speaks.

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

/// Which link something was heard on, counted so that the last words of a link that was given up
/// are not taken for those of the one after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkId {
    /// To a worker.
    Main(u64),
    /// To a room.
    Room(u64),
}

/// What a listener thread hears.
pub(super) enum LinkEvent {
    /// One frame.
    Frame(Vec<u8>),
    /// The connection is over; nothing comes after this.
    Over(String),
}

/// A seated connection. Dropping it closes the socket and joins the listener.
pub(super) struct Link {
    id: LinkId,
    stream: Arc<Stream>,
    closing: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    codec: Codec,
    dial: Connector,
}

impl Link {
    /// Starts the listener thread on a seat. What it hears goes to `events`, marked with `id`.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
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

    /// Which link this is.
    pub(super) fn id(&self) -> LinkId {
        self.id
    }

    /// How documents are written on this link.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// How other connections to the same server are made.
    pub(super) fn dial(&self) -> &Connector {
        &self.dial
    }

    /// The server, as this machine reaches it.
    pub(super) fn server(&self) -> Host {
        self.stream.peer().into()
    }

    /// Sends a frame, as one write.
    ///
    /// # Errors
    /// What the socket reports. The link is of no use then: half a frame may be out.
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

/// What the listener thread has.
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

    /// Hands something to the main thread; what it does not take in time waits in the socket, and
    /// so with the sender. Returns whether to go on. All links share the channel, so a full one is
    /// no reason to wait for ever: the main thread may be waiting for this one to end.
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
