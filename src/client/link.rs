//! The connection to a worker, once seated: a `listener` thread reads, the main thread writes.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::seek::Seat;
use crate::limits::THREAD_STACK;
use crate::wire::{Codec, FrameReader};

/// What the listener thread hears.
pub(super) enum Heard {
    /// One frame.
    Frame(Vec<u8>),
    /// The connection is over; nothing comes after this.
    Over(String),
}

/// A seated connection. Dropping it closes the socket and joins the listener.
pub(super) struct Link {
    stream: Arc<TcpStream>,
    /// Taken on drop, so that a listener that is blocked on a full channel lets go.
    heard: Option<Receiver<Heard>>,
    listener: Option<JoinHandle<()>>,
    codec: Codec,
}

impl Link {
    /// Starts the listener thread on a seat.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub(super) fn start(seat: Seat) -> io::Result<Link> {
        let stream = Arc::new(seat.stream);
        // What the person does not read in time waits in the socket, and so with the sender.
        let (sender, heard) = bounded(64);
        let (reading, frames) = (Arc::clone(&stream), seat.frames);
        let listener = Builder::new()
            .name("listener".to_owned())
            .stack_size(THREAD_STACK)
            .spawn(move || listen(&reading, frames, &sender))?;
        Ok(Link {
            stream,
            heard: Some(heard),
            listener: Some(listener),
            codec: Codec::default(),
        })
    }

    /// What is heard, in order. `None` only while the link is being dropped.
    pub(super) fn heard(&self) -> Option<&Receiver<Heard>> {
        self.heard.as_ref()
    }

    /// How documents are written on this link.
    pub(super) fn codec(&self) -> Codec {
        self.codec
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
        let _ = self.stream.shutdown(Shutdown::Both);
        self.heard = None;
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn listen(stream: &TcpStream, mut frames: FrameReader, heard: &Sender<Heard>) {
    let reason = loop {
        match frames.next_frame() {
            Ok(Some(frame)) => {
                if heard.send(Heard::Frame(frame.to_vec())).is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => break error.to_string(),
        }
        match frames.read_from(&mut &*stream) {
            Ok(0) => break "the server closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    // Nobody listens any more when the person has left; then it does not matter.
    let _ = heard.send(Heard::Over(reason));
}
