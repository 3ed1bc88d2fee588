//! What somebody says to the same people in one turn. It stays a document until it meets a
//! recipient's encoder.

use std::sync::Arc;

use super::{Connection, Unwritten};
use crate::outbox::Queued;
use crate::transport::{Encoder, Encoding, RequestId};
use portal_wire::{Frames, Relay, Scope, ServerDoc};

/// Messages of one speaker on their way to the same people. They are encoded once for each
/// encoding, when the first recipient that has it is met.
#[derive(Default)]
pub struct MessageBatch {
    scope: Scope<'static>,
    from: Arc<str>,
    /// All texts, one after the other, and what is known of each.
    texts: String,
    messages: Vec<BatchEntry>,
    /// For each encoding met so far, the messages as frames; only the first `encodings` count. The
    /// others are kept for their memory.
    written: Vec<(Encoding, Frames)>,
    encodings: usize,
}

#[derive(Clone, Copy)]
struct BatchEntry {
    /// Where its text ends in `texts`.
    end: usize,
    me: bool,
}

impl MessageBatch {
    /// Begins anew: what follows is said in `scope` by `from`.
    pub(crate) fn begin(&mut self, scope: Scope<'static>, from: &Arc<str>) {
        self.clear();
        self.scope = scope;
        self.from = Arc::clone(from);
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, text: &str, me: bool) {
        self.texts.push_str(text);
        let end = self.texts.len();
        self.messages.push(BatchEntry { end, me });
        self.encodings = 0;
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    /// How many bytes their texts have.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.len()
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

    /// Throws the messages away and keeps the memory for the next ones.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.messages.clear();
        self.encodings = 0;
    }

    /// Hands all of it to one recipient. With `later`, its timekeeper writes it.
    pub(crate) fn send_to(&mut self, recipient: &Connection, later: bool) -> Queued {
        let messages = self.messages.len();
        recipient.hand(messages, later, |encoder| self.frames_for(encoder))
    }

    /// Hands all of it to one recipient, for whom `unwritten` sees to it that it is written.
    pub(crate) fn append_to(
        &mut self,
        recipient: &Arc<Connection>,
        unwritten: &mut Unwritten,
    ) -> Queued {
        let messages = self.messages.len();
        let mut bytes = 0;
        let queued = recipient.append(messages, |encoder| {
            let frames = self.frames_for(encoder);
            bytes = frames.len();
            frames
        });
        unwritten.add(recipient, bytes);
        queued
    }

    /// The messages in that encoder's encoding.
    fn frames_for(&mut self, encoder: &mut dyn Encoder) -> &Frames {
        let encoding = encoder.encoding();
        let mut met = self.written[..self.encodings].iter();
        let index = met.position(|(there, _)| *there == encoding);
        let index = index.unwrap_or_else(|| self.write(encoder, encoding));
        &self.written[index].1
    }

    /// Encodes all messages in an encoding that is met for the first time; returns where they are.
    fn write(&mut self, encoder: &mut dyn Encoder, encoding: Encoding) -> usize {
        if self.written.len() == self.encodings {
            self.written.push((encoding, Frames::default()));
        }
        let mut frames = std::mem::take(&mut self.written[self.encodings].1);
        frames.clear();
        for (text, me) in self.texts() {
            let relay = ServerDoc::Relay(Relay {
                scope: self.scope.as_borrowed(),
                from: (&*self.from).into(),
                text: text.into(),
                me,
                old: false,
                time: None,
            });
            frames.push(|out| encoder.encode(&relay, RequestId::default(), out));
        }
        self.written[self.encodings] = (encoding, frames);
        self.encodings += 1;
        self.encodings - 1
    }
}
