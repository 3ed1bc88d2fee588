//! Checks XML rules that roxmltree does not enforce. Browsers and other parsers reject documents
//! that violate them, so this server does, too.

use memchr::memmem;

/// Returns the first fault in a document that roxmltree has accepted, if any.
pub(super) fn fault(frame: &str) -> Option<&'static str> {
    let may_have = |part: &[u8]| memmem::find(frame.as_bytes(), part).is_some();
    if !may_have(b"&#") && !may_have(b"xmlns") && !may_have(b"<?xml") {
        return None;
    }
    // The parser has checked that every construct is closed.
    let frame = frame.strip_prefix('\u{feff}').unwrap_or(frame);
    let mut rest = frame;
    while let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes()) {
        let is_start = at == 0 && rest.len() == frame.len();
        rest = &rest[at..];
        let after = |end: &str| rest.find(end).map_or("", |at| &rest[at + end.len()..]);
        if rest.starts_with("<![CDATA[") {
            rest = after("]]>");
        } else if rest.starts_with("<!--") {
            rest = after("-->");
        } else if let Some(instruction) = rest.strip_prefix("<?") {
            let target = instruction.split([' ', '\t', '\r', '\n', '?']).next();
            let is_declaration = is_start && !instruction.starts_with("xml?");
            if target == Some("xml") && !is_declaration {
                return Some("the XML declaration is incomplete or not at the very beginning");
            }
            rest = after("?>");
        } else if let Some(reference) = rest.strip_prefix("&#") {
            let number = reference.split(';').next().unwrap_or_default();
            let number = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            if number.ok().and_then(char::from_u32).is_none() {
                return Some("a numeric reference does not name a character");
            }
            rest = reference;
        } else {
            let is_tag = rest.starts_with('<');
            rest = &rest[1..];
            let fault = if is_tag { fault_in_tag(rest) } else { None };
            if fault.is_some() {
                return fault;
            }
        }
    }
    None
}

/// Returns the first fault in a tag's namespace declarations, if any. `tag` begins after its `<`.
fn fault_in_tag(tag: &str) -> Option<&'static str> {
    let mut rest =
        tag.trim_start_matches(|character: char| !is_blank(character) && !is_end(character));
    let mut has_default = false;
    loop {
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() || rest.starts_with(is_end) {
            return None;
        }
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start_matches(is_blank);
        let quote = value.chars().next()?;
        let (value, after) = value[quote.len_utf8()..].split_once(quote)?;
        let name = name.trim_end_matches(is_blank);
        if name == "xmlns" && std::mem::replace(&mut has_default, true) {
            return Some("the attribute xmlns appears twice in one tag");
        }
        if name == "xmlns:xmlns" {
            return Some("the prefix xmlns must not be declared");
        }
        if name.starts_with("xmlns:") && value.is_empty() {
            return Some("a namespace with a prefix must not be empty");
        }
        rest = after;
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_end(character: char) -> bool {
    matches!(character, '/' | '>')
}

#[cfg(test)]
mod tests {
    use super::super::elements::parse;
    use crate::limits;

    fn accepts(document: &str) -> bool {
        parse(document, limits::XML_NODES).is_ok()
    }

    /// Documents that Expat 2.5 rejects.
    #[test]
    fn documents_that_other_parsers_reject_are_rejected() {
        for document in [
            "<a>&#xD800;</a>",
            "<a>&#xDfff;</a>",
            "<a>&#55296;</a>",
            "<a>&#x110000;</a>",
            "<a>&#1114112;</a>",
            "<a>&#xFFFFFFFF;</a>",
            "<a>&#4294967296;</a>",
            "<a>&#0;</a>",
            "<a>&#27;</a>",
            "<a>&#xFFFE;</a>",
            "<a>&#;</a>",
            "<a>&#x;</a>",
            "<a>&#X41;</a>",
            "<a b='&#xD800;'/>",
            "<a>&amp;&#xD800;</a>",
            "<a><![CDATA[x]]>&#xD800;</a>",
            "<a><!-- x -->&#xD800;</a>",
            "<a xmlns:b=''/>",
            "<a xmlns:b = \"\"/>",
            "<a><c d='1' xmlns:b=''></c></a>",
            "<a xmlns:xmlns='u'/>",
            "<a xmlns='' xmlns=''/>",
            "<a xmlns='u' xmlns = 'u'/>",
            "<?xml?><a/>",
            " <?xml version='1.0'?><a/>",
            "<a><?xml?></a>",
            "<a/><?xml?>",
        ] {
            assert!(!accepts(document), "{document}");
        }
    }

    /// Documents that Expat 2.5 accepts.
    #[test]
    fn valid_documents_that_look_similar_are_accepted() {
        for document in [
            "<a>&#x10FFFF;&#xD7FF;&#xE000;&#9;&#00065;</a>",
            "<a b='&#10;'>&amp;#xD800;</a>",
            "<a><![CDATA[&#xD800; <b xmlns:c=''/> <?xml?>]]></a>",
            "<a><!-- &#xD800; <b xmlns:c=''/> <?xml?> --></a>",
            "<a><?b &#xD800; <c xmlns:d=''/> ?></a>",
            "<a>xmlns:b='' &#65;</a>",
            "<a b=\" xmlns:c=''\"/>",
            "<a xmlns=''><b xmlns=''/></a>",
            "<a xmlns:b='u' xmlns:c='v' b:d='1' c:d='1'/>",
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
            "<?xml version='1.0'?><a/>",
            "\u{feff}<?xml version='1.0'?><a/>",
            "<?xml-stylesheet href='a'?><a/>",
        ] {
            assert!(accepts(document), "{document}");
        }
    }
}
