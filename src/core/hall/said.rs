//! What somebody says to the same people in one turn. It stays a document until it meets a recipient's
//! codec.

use std::sync::Arc;

use super::{Connection, Unwritten};
use crate::outbox::Handed;
use portal_wire::{Codec, Frames, Relay, Scope, ServerDoc};

/// Messages of one speaker on their way to the same people. They are written once for each codec, when
/// the first recipient that has it is met.
#[derive(Default)]
pub struct Said {
    scope: Scope<'static>,
    from: Arc<str>,
    /// All texts, one after the other, and what is known of each.
    texts: String,
    messages: Vec<Message>,
    /// For each codec met so far, the messages as frames; only the first `codecs` count. The others
    /// are kept for their memory.
    written: Vec<(Codec, Frames)>,
    codecs: usize,
}

#[derive(Clone, Copy)]
struct Message {
    /// Where its text ends in `texts`.
    end: usize,
    me: bool,
}

impl Said {
    /// Begins anew: what follows is said in `scope` by `from`.
    pub fn begin(&mut self, scope: Scope<'static>, from: &Arc<str>) {
        self.clear();
        self.scope = scope;
        self.from = Arc::clone(from);
    }

    /// Adds a message.
    pub fn push(&mut self, text: &str, me: bool) {
        self.texts.push_str(text);
        let end = self.texts.len();
        self.messages.push(Message { end, me });
        self.codecs = 0;
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    /// How many bytes their texts have.
    pub fn bytes(&self) -> usize {
        self.texts.len()
    }

    /// Each message's text, and whether it is an action.
    pub fn texts(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut begin = 0;
        self.messages.iter().map(move |message| {
            let text = &self.texts[begin..message.end];
            begin = message.end;
            (text, message.me)
        })
    }

    /// Throws the messages away and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.messages.clear();
        self.codecs = 0;
    }

    /// Hands all of it to one recipient. With `later`, its timekeeper writes it.
    pub fn hand_to(&mut self, recipient: &Connection, later: bool) -> Handed {
        let index = self.index_for(recipient);
        recipient.hand(&self.written[index].1, self.messages.len(), later)
    }

    /// Hands all of it to one recipient, for whom `unwritten` sees to it that it is written.
    pub fn append_to(&mut self, recipient: &Arc<Connection>, unwritten: &mut Unwritten) -> Handed {
        let index = self.index_for(recipient);
        let frames = &self.written[index].1;
        let handed = recipient.append(frames, self.messages.len());
        unwritten.add(recipient, frames.len());
        handed
    }

    /// Where the messages stand as that recipient's codec writes them.
    fn index_for(&mut self, recipient: &Connection) -> usize {
        let codec = recipient.outbox.codec();
        let met = self.written[..self.codecs]
            .iter()
            .position(|(there, _)| there.writes_as(&codec));
        met.unwrap_or_else(|| self.write(codec))
    }

    /// Writes all messages for a codec that is met for the first time; returns where they are.
    fn write(&mut self, codec: Codec) -> usize {
        if self.written.len() == self.codecs {
            self.written.push((codec, Frames::default()));
        }
        let (there, mut frames) = (codec, std::mem::take(&mut self.written[self.codecs].1));
        frames.clear();
        for (text, me) in self.texts() {
            let relay = Relay {
                scope: self.scope.as_borrowed(),
                from: (&*self.from).into(),
                text: text.into(),
                me,
                old: false,
                time: None,
            };
            frames.push(|out| codec.write_server(&ServerDoc::Relay(relay), out));
        }
        self.written[self.codecs] = (there, frames);
        self.codecs += 1;
        self.codecs - 1
    }
}
