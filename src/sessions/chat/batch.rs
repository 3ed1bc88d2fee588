//! The messages from one sender to the same recipients in one turn. A message stays a document
//! until a recipient's encoder encodes it.

use std::sync::Arc;

use super::{Connection, Unwritten};
use crate::journal::{HistoryEntry, Stamp};
use portal_core::outbox::Queued;
use portal_core::transport::{Encoder, Encoding, RequestId};
use portal_wire::{Frames, Relay, Scope, ServerDoc, escaped_bytes, time};

/// Approximate length of a message's frame without its text, in bytes.
const FRAME_BYTES: usize = 128;

/// Messages from one sender to the same recipients. They are encoded once per encoding, for the
/// first recipient that uses it.
#[derive(Default)]
pub struct MessageBatch {
    scope: Scope<'static>,
    from: Arc<str>,
    /// The text of all messages, concatenated; `messages` has an entry for each.
    texts: String,
    messages: Vec<BatchEntry>,
    /// Approximate length of the messages as frames, in bytes.
    bytes: usize,
    /// The stamp of the first message, and its time in RFC 3339 format. The other messages have the
    /// ids that follow.
    stamp: Option<(Stamp, String)>,
    /// The messages as frames, for each encoding used so far. Only the first `encodings` are valid.
    /// The others are kept for their allocated memory.
    written: Vec<(Encoding, Frames)>,
    encodings: usize,
}

#[derive(Clone, Copy)]
struct BatchEntry {
    /// The end of the message's text in `texts`.
    end: usize,
    me: bool,
}

impl MessageBatch {
    /// Starts a new batch: the following messages are from `from`, in `scope`.
    pub(crate) fn begin(&mut self, scope: Scope<'static>, from: &Arc<str>) {
        self.clear();
        self.scope = scope;
        self.from = Arc::clone(from);
    }

    pub(crate) fn push(&mut self, text: &str, me: bool) {
        self.texts.push_str(text);
        self.bytes += FRAME_BYTES + escaped_bytes(text);
        let end = self.texts.len();
        self.messages.push(BatchEntry { end, me });
        self.encodings = 0;
    }

    /// Stamps the messages. `stamp` is the stamp of the first one.
    pub(crate) fn stamp(&mut self, stamp: Stamp) {
        self.stamp = Some((stamp, time::rfc_3339(stamp.sent_at)));
        self.encodings = 0;
    }

    /// The stamps of the messages, if they have been stamped.
    fn stamps(&self) -> impl Iterator<Item = Stamp> + use<> {
        let first = self.stamp.as_ref().map(|(stamp, _)| *stamp);
        first
            .into_iter()
            .flat_map(|Stamp { id, sent_at }| (id..).map(move |id| Stamp { id, sent_at }))
    }

    /// The messages for a journal, if they have been stamped.
    pub(crate) fn entries(&self) -> Vec<HistoryEntry> {
        let entry = |((text, me), stamp): ((&str, bool), Stamp)| HistoryEntry {
            stamp,
            from: Arc::clone(&self.from),
            to: None,
            text: text.into(),
            me,
        };
        self.texts().zip(self.stamps()).map(entry).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    /// Approximate length of the messages as frames, in bytes. Escaping makes a text up to six
    /// times as long.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Each message's text, and whether it is an action.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut begin = 0;
        self.messages.iter().map(move |message| {
            let text = &self.texts[begin..message.end];
            begin = message.end;
            (text, message.me)
        })
    }

    /// Removes the messages, but keeps the allocated memory.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.messages.clear();
        self.bytes = 0;
        self.stamp = None;
        self.encodings = 0;
    }

    /// Queues the messages for one recipient. With `later`, the recipient's timer thread writes
    /// them.
    pub(crate) fn send_to(&mut self, recipient: &Connection, later: bool) -> Queued {
        let messages = self.messages.len();
        recipient.hand(messages, later, |encoder| self.frames_for(encoder))
    }

    /// Appends the messages to one recipient's outbox. `unwritten` writes them.
    pub(crate) fn append_to(
        &mut self,
        recipient: &Arc<Connection>,
        unwritten: &mut Unwritten,
    ) -> Queued {
        let (queued, bytes) = self.append_unwritten(recipient);
        unwritten.add(recipient, bytes);
        queued
    }

    /// Appends the messages to one recipient's outbox, which the caller must flush. Also returns
    /// the number of bytes.
    pub(crate) fn append_unwritten(&mut self, recipient: &Connection) -> (Queued, usize) {
        let messages = self.messages.len();
        let mut bytes = 0;
        let queued = recipient.append(messages, |encoder| {
            let frames = self.frames_for(encoder);
            bytes = frames.len();
            frames
        });
        (queued, bytes)
    }

    /// Returns the messages in the encoding of `encoder`.
    fn frames_for(&mut self, encoder: &mut dyn Encoder) -> &Frames {
        let encoding = encoder.encoding();
        let mut met = self.written[..self.encodings].iter();
        let index = met.position(|(there, _)| *there == encoding);
        let index = index.unwrap_or_else(|| self.write(encoder, encoding));
        &self.written[index].1
    }

    /// Encodes all messages in a new encoding, and returns its index.
    fn write(&mut self, encoder: &mut dyn Encoder, encoding: Encoding) -> usize {
        if self.written.len() == self.encodings {
            self.written.push((encoding, Frames::default()));
        }
        let mut frames = std::mem::take(&mut self.written[self.encodings].1);
        frames.clear();
        let mut ids = self.stamps().map(|stamp| stamp.id);
        for (text, me) in self.texts() {
            let relay = ServerDoc::Relay(Relay {
                scope: self.scope.as_borrowed(),
                from: (&*self.from).into(),
                text: text.into(),
                me,
                time: self.stamp.as_ref().map(|(_, time)| time.as_str().into()),
                id: ids.next(),
                ..Relay::default()
            });
            frames.push(|out| encoder.encode(&relay, RequestId::default(), out));
        }
        self.written[self.encodings] = (encoding, frames);
        self.encodings += 1;
        self.encodings - 1
    }
}
