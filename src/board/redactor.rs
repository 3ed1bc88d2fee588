//! Removes passcodes, passwords and messages from events, because the board may be shown on a
//! projector.

use portal_core::event::{Event, FieldValue};
use portal_wire::printable;

/// Redacts events.
#[derive(Clone, Copy)]
pub struct Redactor {
    /// Show messages (`--show-messages`).
    pub texts: bool,
    /// Show passcodes and passwords (`--show-passcodes`).
    pub secrets: bool,
}

/// Maximum length of a displayed text, in characters.
const LONGEST: usize = 2000;

/// Protocol elements whose text may always be shown.
const HARMLESS: &[&str] = &[
    "command", "Port", "Address", "address", "partner", "user", "username", "account", "count",
    "room", "to",
];

/// Protocol elements that contain only other elements.
const FRAMES: &[&str] = &["CLIENT", "SERVER", "callback"];

const TEXTS: &[&str] = &["message", "notice", "error", "reason"];
const SECRETS: &[&str] = &["HandshakePasscode", "password", "token"];

/// Protocol attributes. None of them contains free text.
const ATTRIBUTES: &[&str] = &[
    "type", "port", "seat", "room", "from", "scope", "me", "old", "code", "members",
];

/// The server's own `<message>` texts, which may always be shown.
const SAID_BY_THE_SERVER: &[&str] = &[
    "Connection successful",
    "Wrong handshake passcode",
    "Calling back",
];

impl Redactor {
    /// Redacts an event, and shortens long texts.
    pub(super) fn lay_over(&self, event: &mut Event) {
        if !self.secrets {
            event.fields.retain(|(name, _)| name != "passcode");
        }
        for (name, value) in &mut event.fields {
            let FieldValue::Text(text) = value else {
                continue;
            };
            let text = text.to_mut();
            if name == "bytes" {
                *text = self.bytes(text);
            }
            // A text must not change the reading direction of the text next to it.
            *text = printable(text);
            let long = text.char_indices().nth(LONGEST);
            if let Some((at, _)) = long {
                let more = text[at..].chars().count();
                text.truncate(at);
                *text += &format!("… and {more} more");
            }
        }
    }

    /// Redacts the quoted bytes of a socket call. Keeps only text that is known to be harmless,
    /// because the bytes may begin or end anywhere in a document, and a client may send anything.
    fn bytes(&self, shown: &str) -> String {
        if self.texts && self.secrets {
            return shown.to_owned();
        }
        let inner = shown.strip_prefix('"').unwrap_or(shown);
        let (inner, end) = inner.rsplit_once('"').unwrap_or((inner, ""));
        // The text before the first tag may be the end of any element.
        let (before, mut rest) = match inner.find('<') {
            Some(at) => inner.split_at(at),
            None => (inner, ""),
        };
        let mut veiled = if before.is_empty() { "\"" } else { "\"…" }.to_owned();
        while let Some(after) = rest.strip_prefix('<') {
            let Some((tag, after)) = after.split_once('>') else {
                // The tag is cut off, or is not a tag.
                veiled.push('…');
                break;
            };
            let (text, next) = match after.find('<') {
                Some(at) => after.split_at(at),
                None => (after, ""),
            };
            veiled += &shown_tag(tag);
            veiled += if self.may_show(tag, text) {
                text
            } else {
                "…"
            };
            rest = next;
        }
        format!("{veiled}\"{end}")
    }

    /// Returns whether the `text` that follows `tag` may be shown.
    fn may_show(&self, tag: &str, text: &str) -> bool {
        let is_nothing = text.is_empty() || text == "\\n" || text == "\\r\\n";
        let name = name_of(tag);
        is_nothing
            || (!tag.starts_with('/') && HARMLESS.contains(&name))
            || (!tag.starts_with('/') && TEXTS.contains(&name) && self.texts)
            || (!tag.starts_with('/') && SECRETS.contains(&name) && self.secrets)
            || (name == "message" && SAID_BY_THE_SERVER.contains(&text))
    }
}

/// Returns the element name in an opening or closing tag.
fn name_of(tag: &str) -> &str {
    let tag = tag.strip_prefix('/').unwrap_or(tag);
    tag.split([' ', '/', '\\']).next().unwrap_or_default()
}

/// Returns a protocol tag with its known attributes, or a placeholder for any other tag.
fn shown_tag(tag: &str) -> String {
    let name = name_of(tag);
    let is_known = [HARMLESS, FRAMES, TEXTS, SECRETS]
        .iter()
        .any(|names| names.contains(&name));
    if !is_known {
        return "<…>".to_owned();
    }
    let slash = if tag.starts_with('/') { "/" } else { "" };
    let mut shown = format!("<{slash}{name}");
    let attributes = tag.trim_start_matches('/')[name.len()..].split_whitespace();
    for attribute in attributes {
        let is_harmless = attribute.split_once('=').is_some_and(|(name, value)| {
            let value = value.trim_matches(['\'', '"']);
            ATTRIBUTES.contains(&name)
                && value.len() <= portal_wire::limits::MAX_NAME_BYTES
                && value
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        });
        shown.push(' ');
        shown += if is_harmless || attribute == "/" {
            attribute
        } else {
            "…"
        };
    }
    shown + ">"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Redactor = Redactor {
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
                r#""<CLIENT from='alice' scope='public'><message me='yes'>waves</message></CLIENT>\n""#,
                r#""<CLIENT from='alice' scope='public'><message me='yes'>…</message></CLIENT>\n""#,
            ),
            (
                r#""<CLIENT><HandshakePasscode>abc</HandshakePasscode></CLIENT>\n<CLIENT><message>x</message>""#,
                r#""<CLIENT><HandshakePasscode>…</HandshakePasscode></CLIENT>\n<CLIENT><message>…</message>""#,
            ),
            (
                r#""<CLIENT><command>PASSWORD</command><password >abc</password></CLIENT>\n""#,
                r#""<CLIENT><command>PASSWORD</command><password>…</password></CLIENT>\n""#,
            ),
            (
                r#""<CLIENT><Password>abc</Password><password x='abc'/></CLIENT>\n""#,
                r#""<CLIENT><…>…<…><password …></CLIENT>\n""#,
            ),
            (
                r#""<SERVER type='worker' port='1'><message>Connection successful</message></SERVER>\n""#,
                r#""<SERVER type='worker' port='1'><message>Connection successful</message></SERVER>\n""#,
            ),
            (
                r#""<SERVER><command>SENT</command><count>3</count></SERVER>\n" and 9 more"#,
                r#""<SERVER><command>SENT</command><count>3</count></SERVER>\n" and 9 more"#,
            ),
            // Documents that are cut off at various points.
            (r#""<CLIENT><message>secr""#, r#""<CLIENT><message>…""#),
            (
                r#""et</message></CLIENT>\n""#,
                r#""…</message></CLIENT>\n""#,
            ),
            (r#""<CLIENT><mess""#, r#""<CLIENT>…""#),
            (r#""age>secret</message>""#, r#""…</message>""#),
            (r#""secret""#, r#""…""#),
            (
                r#""<message><![CDATA[a</message>secret]]></message>""#,
                r#""<message><…>…</message>""#,
            ),
            // Plain strings from seed 000's programs, and a length that looks like the start of a
            // tag.
            (r#""\x26CLIENT50001>>>HandshakeCode=123456789""#, r#""…""#),
            (r#""<i said something that is sixty bytes long""#, r#""…""#),
            (r#""\x0bi <3 you, meet me at six""#, r#""……""#),
        ] {
            assert_eq!(ALL.bytes(bytes), shown, "{bytes}");
        }
        let texts = Redactor {
            texts: true,
            secrets: false,
        };
        let bytes = r#""<message>a</message><HandshakePasscode>b</HandshakePasscode>""#;
        assert_eq!(
            texts.bytes(bytes),
            r#""<message>a</message><HandshakePasscode>…</HandshakePasscode>""#
        );
    }

    proptest! {
        /// Cuts a conversation into random pieces; no piece may show a secret.
        #[test]
        fn no_cut_lets_a_secret_through(cuts in prop::collection::vec(0usize..260, 0..6)) {
            let said = "<CLIENT><HandshakePasscode>QZQ</HandshakePasscode></CLIENT>\\n\
                <CLIENT><command>PASSWORD</command><password a=\"QZQ\">QZQ</password></CLIENT>\\n\
                <CLIENT><message me='yes'>QZQ &lt; QZQ</message></CLIENT>\\n\
                <CLIENT><command>DM</command><to>bob</to><message>QZQ</message></CLIENT>\\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(said.len())).collect();
            cuts.extend([0, said.len()]);
            cuts.sort_unstable();
            for piece in cuts.windows(2) {
                let piece = &said[piece[0]..piece[1]];
                let shown = ALL.bytes(&format!("\"{piece}\""));
                // Even two adjacent letters of the secret would be too much.
                prop_assert!(!shown.contains("QZ") && !shown.contains("ZQ"), "{} became {}", piece, shown);
            }
        }
    }
}
