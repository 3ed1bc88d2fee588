//! What of an event a projector may show: nobody's passcode or password, and nobody's words, unless
//! that is wanted.

use portal_core::event::{Event, FieldValue};
use portal_wire::printable;

/// Hides what is not to be shown.
#[derive(Clone, Copy)]
pub struct Redactor {
    /// What people say may be shown (`--show-messages`).
    pub texts: bool,
    /// Passcodes and passwords may be shown (`--show-passcodes`).
    pub secrets: bool,
}

/// Of a longer text, so many characters are shown.
const LONGEST: usize = 2000;

/// Elements of the protocol in which something may stand that anybody may see.
const HARMLESS: &[&str] = &[
    "command", "Port", "Address", "address", "partner", "user", "username", "account", "count",
    "room", "to",
];

/// Elements of the protocol in which other elements stand, and nothing else.
const FRAMES: &[&str] = &["CLIENT", "SERVER", "callback"];

const TEXTS: &[&str] = &["message", "notice", "error", "reason"];
const SECRETS: &[&str] = &["HandshakePasscode", "password"];

/// Attributes of the protocol. None of them holds a text.
const ATTRIBUTES: &[&str] = &[
    "type", "port", "seat", "room", "from", "scope", "me", "old", "code", "members",
];

/// What a server says in a `<message>` is no secret.
const SAID_BY_THE_SERVER: &[&str] = &[
    "Connection successful",
    "Wrong handshake passcode",
    "Calling back",
];

impl Redactor {
    /// Hides it in `event`, and shortens what is long.
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

    /// The bytes of a call, as they are shown between quotation marks. Only what is known to be
    /// harmless is left: a call may begin or end anywhere, and a client may send anything.
    fn bytes(&self, shown: &str) -> String {
        if self.texts && self.secrets {
            return shown.to_owned();
        }
        let inner = shown.strip_prefix('"').unwrap_or(shown);
        let (inner, end) = inner.rsplit_once('"').unwrap_or((inner, ""));
        // Up to the first mark-up it may be the rest of anything.
        let (before, mut rest) = match inner.find('<') {
            Some(at) => inner.split_at(at),
            None => (inner, ""),
        };
        let mut veiled = if before.is_empty() { "\"" } else { "\"…" }.to_owned();
        while let Some(after) = rest.strip_prefix('<') {
            let Some((tag, after)) = after.split_once('>') else {
                // It is cut off, and may not even be a tag.
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

    /// Whether `text` may be shown, which stands behind `tag`.
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

/// The name of an element in its opening or closing tag.
fn name_of(tag: &str) -> &str {
    let tag = tag.strip_prefix('/').unwrap_or(tag);
    tag.split([' ', '/', '\\']).next().unwrap_or_default()
}

/// A tag of the protocol as it is, with the attributes that are known; of any other, that it is
/// one.
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
            // Cut in two, anywhere.
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
            // The originals' plain strings, and a length that looks like the beginning of a tag.
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
        /// However a conversation is cut, no piece shows what is said in it.
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
                // No two letters of it that stand together.
                prop_assert!(!shown.contains("QZ") && !shown.contains("ZQ"), "{} became {}", piece, shown);
            }
        }
    }
}
