//! The XML elements of documents: how each kind of field is read and written.
//!
//! Reading is lenient where XML is (either quote, attributes in any order, unknown elements) and
//! strict where safety requires it: no DTD, few nodes, few attributes. The frame has already
//! limited the size. Parsed documents are never walked recursively and never printed with `{:?}`,
//! because a deeply nested one would overflow the stack.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use roxmltree::{Document, Node, ParsingOptions, StringStorage};

use super::doc::{DocError, Secret};
use super::text::escape_into;
use super::well_formed;
use crate::Port;
use crate::limits;

/// Returns the text of a required child element.
pub(super) fn part<'f>(
    root: Node<'_, 'f>,
    element: &'static str,
) -> Result<Cow<'f, str>, DocError> {
    child(root, element)
        .map(text_of)
        .ok_or(DocError::Missing(element))
}

/// Appends an empty element.
pub(super) fn empty(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"/>");
}

pub(super) fn element(name: &str, text: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    escape_into(text, out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

pub(super) fn parse(frame: &str, nodes_limit: u32) -> Result<Document<'_>, DocError> {
    if attributes(frame) > limits::XML_ATTRIBUTES {
        return Err(DocError::NotXml("too many attributes".to_owned()));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit,
        ..Default::default()
    };
    let document = Document::parse_with_options(frame, options)
        .map_err(|error| DocError::NotXml(error.to_string()))?;
    match well_formed::fault(frame) {
        Some(fault) => Err(DocError::NotXml(fault.to_owned())),
        None => Ok(document),
    }
}

pub(super) fn rooted<'d, 'f>(
    document: &'d Document<'f>,
    expected: &'static str,
) -> Result<Node<'d, 'f>, DocError> {
    let root = document.root_element();
    if root.has_tag_name(expected) {
        Ok(root)
    } else {
        Err(DocError::WrongRoot { expected })
    }
}

pub(super) fn child<'d, 'f>(root: Node<'d, 'f>, name: &str) -> Option<Node<'d, 'f>> {
    root.children().find(|node| node.has_tag_name(name))
}

/// Returns all text directly inside an element. It borrows from the frame unless the text has
/// escapes or is interrupted by an unknown element.
pub(super) fn text_of<'f>(element: Node<'_, 'f>) -> Cow<'f, str> {
    let mut texts = element
        .children()
        .filter(Node::is_text)
        .filter_map(|node| node.text_storage());
    let Some(first) = texts.next() else {
        return Cow::Borrowed("");
    };
    let mut text = match first {
        StringStorage::Borrowed(text) => Cow::Borrowed(*text),
        StringStorage::Owned(text) => Cow::Owned(text.to_string()),
    };
    for more in texts {
        text.to_mut().push_str(more);
    }
    text
}

pub(super) fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

pub(super) fn attribute<'f>(
    node: Node<'_, 'f>,
    name: &'static str,
) -> Result<Cow<'f, str>, DocError> {
    let value = node.attribute(name).ok_or(DocError::Missing(name))?;
    Ok(Cow::Owned(value.to_owned()))
}

pub(super) fn is_yes(node: Node<'_, '_>, attribute: &str) -> bool {
    node.attribute(attribute) == Some("yes")
}

pub(super) fn port_from(digits: &str) -> Option<Port> {
    digits.parse().ok().and_then(Port::new)
}

/// Returns an upper bound on the number of attributes in a document: the number of equals signs
/// inside tags. The parser compares each attribute with every other one of its element, so they are
/// counted first.
fn attributes(frame: &str) -> usize {
    let mut count = 0;
    let mut rest = frame;
    while let Some(at) = memchr::memchr(b'<', rest.as_bytes()) {
        rest = &rest[at..];
        let end = if rest.starts_with("<![CDATA[") {
            "]]>"
        } else {
            ">"
        };
        let length = rest.find(end).unwrap_or(rest.len());
        if end == ">" {
            count += memchr::memchr_iter(b'=', &rest.as_bytes()[..length]).count();
        }
        rest = &rest[length..];
    }
    count
}

/// A required text.
pub(super) struct Text;

impl Text {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Cow<'f, str>, DocError> {
        part(root, name)
    }

    pub(super) fn write(text: &str, name: &str, out: &mut Vec<u8>) {
        element(name, text, out);
    }
}

/// A required text, without the whitespace around it.
pub(super) struct Trimmed;

impl Trimmed {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Cow<'f, str>, DocError> {
        part(root, name).map(trimmed)
    }

    pub(super) fn write(text: &str, name: &str, out: &mut Vec<u8>) {
        element(name, text, out);
    }
}

/// An optional text.
pub(super) struct Optional;

impl Optional {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Option<Cow<'f, str>>, DocError> {
        Ok(child(root, name).map(text_of))
    }

    pub(super) fn write(text: &Option<Cow<'_, str>>, name: &str, out: &mut Vec<u8>) {
        if let Some(text) = text {
            element(name, text, out);
        }
    }
}

/// An optional text; empty if the element is missing.
pub(super) struct OrEmpty;

impl OrEmpty {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Cow<'f, str>, DocError> {
        Ok(part(root, name).unwrap_or_default())
    }

    pub(super) fn write(text: &str, name: &str, out: &mut Vec<u8>) {
        element(name, text, out);
    }
}

/// A password.
pub(super) struct Hidden;

impl Hidden {
    pub(super) fn read<'f>(root: Node<'_, 'f>, name: &'static str) -> Result<Secret<'f>, DocError> {
        part(root, name).map(Secret)
    }

    pub(super) fn write(Secret(text): &Secret<'_>, name: &str, out: &mut Vec<u8>) {
        element(name, text, out);
    }
}

/// An optional password.
pub(super) struct OptionalHidden;

impl OptionalHidden {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Option<Secret<'f>>, DocError> {
        Ok(child(root, name).map(|node| Secret(text_of(node))))
    }

    pub(super) fn write(secret: &Option<Secret<'_>>, name: &str, out: &mut Vec<u8>) {
        if let Some(secret) = secret {
            Hidden::write(secret, name, out);
        }
    }
}

/// The access to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoomAccess {
    /// Every user may join. A reader that does not know the word assumes this.
    #[default]
    Open,
    /// Only the room's moderators and users that they have invited may join.
    Invite,
    /// A user who was not invited needs the room's password.
    Password,
}

impl RoomAccess {
    const ALL: [RoomAccess; 3] = [RoomAccess::Open, RoomAccess::Invite, RoomAccess::Password];

    /// Returns the word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            RoomAccess::Open => "open",
            RoomAccess::Invite => "invite",
            RoomAccess::Password => "password",
        }
    }

    /// Returns the access that a word on the wire denotes.
    pub fn from_word(word: &str) -> Option<RoomAccess> {
        RoomAccess::ALL
            .into_iter()
            .find(|access| access.word() == word)
    }
}

/// [`RoomAccess`], as its word.
pub(super) struct Access;

impl Access {
    pub(super) fn read(root: Node<'_, '_>, name: &'static str) -> Result<RoomAccess, DocError> {
        Ok(RoomAccess::from_word(part(root, name)?.trim()).unwrap_or_default())
    }

    pub(super) fn write(access: &RoomAccess, name: &str, out: &mut Vec<u8>) {
        element(name, access.word(), out);
    }
}

/// An empty element that is present or absent.
pub(super) struct Flag;

impl Flag {
    pub(super) fn read(root: Node<'_, '_>, name: &'static str) -> Result<bool, DocError> {
        Ok(child(root, name).is_some())
    }

    pub(super) fn write(is_set: &bool, name: &str, out: &mut Vec<u8>) {
        if *is_set {
            empty(name, out);
        }
    }
}

/// `me='yes'`, on the root or on the message. It is written with the root element.
pub(super) struct Me;

impl Me {
    pub(super) fn read(root: Node<'_, '_>, name: &'static str) -> Result<bool, DocError> {
        let message = child(root, "message");
        Ok(is_yes(root, name) || message.is_some_and(|message| is_yes(message, name)))
    }

    pub(super) fn write(_: &bool, _: &str, _: &mut Vec<u8>) {}
}

/// An optional number.
pub(super) struct OptionalNumber;

impl OptionalNumber {
    pub(super) fn read<T: FromStr>(
        root: Node<'_, '_>,
        name: &'static str,
    ) -> Result<Option<T>, DocError> {
        child(root, name)
            .map(|_| Number::read(root, name))
            .transpose()
    }

    pub(super) fn write<T: Display>(number: &Option<T>, name: &str, out: &mut Vec<u8>) {
        if let Some(number) = number {
            Number::write(number, name, out);
        }
    }
}

/// A number, or an address.
pub(super) struct Number;

impl Number {
    pub(super) fn read<T: FromStr>(root: Node<'_, '_>, name: &'static str) -> Result<T, DocError> {
        let text = part(root, name)?;
        text.trim().parse().map_err(|_| DocError::BadNumber(name))
    }

    pub(super) fn write<T: Display>(number: &T, name: &str, out: &mut Vec<u8>) {
        element(name, &number.to_string(), out);
    }
}

pub(super) struct PortNumber;

impl PortNumber {
    pub(super) fn read(root: Node<'_, '_>, name: &'static str) -> Result<Port, DocError> {
        port_from(part(root, name)?.trim()).ok_or(DocError::Missing(name))
    }

    pub(super) fn write(port: &Port, name: &str, out: &mut Vec<u8>) {
        element(name, &port.to_string(), out);
    }
}

/// Any number of elements with this name.
pub(super) struct List;

impl List {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Vec<Cow<'f, str>>, DocError> {
        let named = root.children().filter(|node| node.has_tag_name(name));
        Ok(named.map(text_of).collect())
    }

    pub(super) fn write(texts: &[Cow<'_, str>], name: &str, out: &mut Vec<u8>) {
        for text in texts {
            element(name, text, out);
        }
    }
}

/// Rooms, each with its number of members.
pub(super) struct RoomList;

impl RoomList {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Vec<(Cow<'f, str>, usize)>, DocError> {
        let named = root.children().filter(|node| node.has_tag_name(name));
        let room = |node: Node<'_, 'f>| {
            let members = node.attribute("members");
            let members = members.and_then(|count| count.parse().ok());
            (text_of(node), members.unwrap_or(0))
        };
        Ok(named.map(room).collect())
    }

    pub(super) fn write(rooms: &[(Cow<'_, str>, usize)], name: &str, out: &mut Vec<u8>) {
        for (room, members) in rooms {
            out.extend_from_slice(format!("<{name} members='{members}'>").as_bytes());
            escape_into(room, out);
            out.extend_from_slice(format!("</{name}>").as_bytes());
        }
    }
}

/// Another server in the chat that has free seats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The port of its portal.
    pub port: Port,
    /// The address of its page, if it has one.
    pub web: Option<Cow<'a, str>>,
}

/// [`Elsewhere`], as an element with three children.
pub(super) struct NeighbourElement;

impl NeighbourElement {
    pub(super) fn read<'f>(
        root: Node<'_, 'f>,
        name: &'static str,
    ) -> Result<Elsewhere<'f>, DocError> {
        let there = child(root, name).ok_or(DocError::Missing(name))?;
        Ok(Elsewhere {
            address: Number::read(there, "address")?,
            port: PortNumber::read(there, "Port")?,
            web: Optional::read(there, "web")?,
        })
    }

    pub(super) fn write(there: &Elsewhere<'_>, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("<{name}>").as_bytes());
        Number::write(&there.address, "address", out);
        PortNumber::write(&there.port, "Port", out);
        Optional::write(&there.web, "web", out);
        out.extend_from_slice(format!("</{name}>").as_bytes());
    }
}

/// `new` or `existing`.
pub(super) struct IsNew;

impl IsNew {
    pub(super) fn read(root: Node<'_, '_>, name: &'static str) -> Result<bool, DocError> {
        Ok(part(root, name)?.trim() == "new")
    }

    pub(super) fn write(is_new: &bool, name: &str, out: &mut Vec<u8>) {
        element(name, if *is_new { "new" } else { "existing" }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_counted_and_equals_signs_in_texts_are_not() {
        for (frame, count) in [
            ("<a b='1' c = '2'>x=y</a>", 2),
            ("<a><![CDATA[ b='1' > c=2 ]]></a>", 0),
            ("<a b='", 1),
            ("a=b", 0),
        ] {
            assert_eq!(attributes(frame), count, "{frame}");
        }
        let many = |count: usize| {
            let attributes: String = (0..count).map(|n| format!("a{n}='' ")).collect();
            parse(&format!("<CLIENT {attributes}/>"), 10).is_ok()
        };
        assert!(many(64) && !many(65));
    }
}
