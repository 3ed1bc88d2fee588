//! What of an event a projector may show: nobody's passcode or password, and nobody's words, unless
//! that is wanted.

use crate::event::{Detail, Record};
use crate::wire::printable;

/// Hides what is not to be shown.
#[derive(Clone, Copy)]
pub struct Veil {
    /// What people say may be shown (`--show-messages`).
    pub texts: bool,
    /// Passcodes and passwords may be shown (`--show-passcodes`).
    pub secrets: bool,
}

/// Of a longer text, so many characters are shown.
const LONGEST: usize = 2000;

impl Veil {
    /// Hides it in `record`, and shortens what is long.
    pub(super) fn lay_over(&self, record: &mut Record) {
        if !self.secrets {
            record.details.retain(|(name, _)| name != "passcode");
        }
        for (name, detail) in &mut record.details {
            let Detail::Text(text) = detail else { continue };
            if name == "bytes" {
                *text = self.bytes(text);
            }
            // Nor may a text turn the reading direction of what stands beside it.
            *text = printable(text);
            let long = text.char_indices().nth(LONGEST);
            if let Some((at, _)) = long {
                let more = text[at..].chars().count();
                text.truncate(at);
                *text += &format!("… and {more} more");
            }
        }
    }

    /// The bytes of a call, as they are shown between quotation marks. What is hidden begins after
    /// an element's opening and ends before its closing. A call may begin or end in the middle of
    /// that, so anything before the first `<` is hidden, too.
    fn bytes(&self, shown: &str) -> String {
        if self.texts && self.secrets {
            return shown.to_owned();
        }
        let hidden: &[&str] = match (self.texts, self.secrets) {
            (false, false) => &["HandshakePasscode", "password", "message"],
            (true, false) => &["HandshakePasscode", "password"],
            (false, true) => &["message"],
            (true, true) => &[],
        };
        let Some((begin, mut rest)) = shown.split_once('<') else {
            return "\"…\"".to_owned();
        };
        let mut veiled = if begin == "\"" { "\"<" } else { "\"…<" }.to_owned();
        loop {
            let next = hidden
                .iter()
                .filter_map(|name| Some((rest.find(&format!("{name}>"))?, *name)))
                .min();
            let Some((at, name)) = next else { break };
            let (before, after) = rest.split_at(at + name.len() + 1);
            veiled += before;
            rest = after;
            if before.ends_with(&format!("/{name}>")) {
                continue;
            }
            let end = rest.find(&format!("</{name}>")).unwrap_or(rest.len());
            // What the server says in these elements is no secret.
            let known = [
                "Connection successful",
                "Wrong handshake passcode",
                "Calling back",
            ];
            let inside = &rest[..end];
            if known.contains(&inside) {
                veiled += inside;
            } else {
                veiled.push('…');
            }
            rest = &rest[end..];
        }
        // An element's name that is cut off could be one of those; its content comes with the next
        // call, and there it stands before the first `<`.
        veiled + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Veil = Veil {
        texts: false,
        secrets: false,
    };

    #[test]
    fn words_and_secrets_are_hidden_and_the_frame_stays() {
        for (bytes, shown) in [
            (
                r#""<CLIENT><message>hi &lt;b&gt;</message></CLIENT>\n""#,
                r#""<CLIENT><message>…</message></CLIENT>\n""#,
            ),
            (
                r#""<CLIENT><HandshakePasscode>abc</HandshakePasscode></CLIENT>\n<CLIENT><message>x</message>""#,
                r#""<CLIENT><HandshakePasscode>…</HandshakePasscode></CLIENT>\n<CLIENT><message>…</message>""#,
            ),
            (
                r#""<CLIENT><command>PASSWORD</command><password>abc</password></CLIENT>\n""#,
                r#""<CLIENT><command>PASSWORD</command><password>…</password></CLIENT>\n""#,
            ),
            (
                r#""<SERVER type='worker' port='1'><message>Connection successful</message></SERVER>\n""#,
                r#""<SERVER type='worker' port='1'><message>Connection successful</message></SERVER>\n""#,
            ),
            // Cut in two.
            (r#""<CLIENT><message>secr""#, r#""<CLIENT><message>…"#),
            (
                r#""et</message></CLIENT>\n""#,
                r#""…</message></CLIENT>\n""#,
            ),
            (r#""secret""#, r#""…""#),
            (r#""\x26CLIENT50001>>>HandshakeCode=123456789""#, r#""…""#),
        ] {
            assert_eq!(ALL.bytes(bytes), shown, "{bytes}");
        }
        let texts = Veil {
            texts: true,
            secrets: false,
        };
        let bytes = r#""<message>a</message><HandshakePasscode>b</HandshakePasscode>""#;
        assert_eq!(
            texts.bytes(bytes),
            r#""<message>a</message><HandshakePasscode>…</HandshakePasscode>""#
        );
    }
}
