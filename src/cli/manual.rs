//! Manual pages, with the sections that man-pages(7) expects.

use clap::Command;

/// The hand-written sections of a manual page; name and options come from the command line's
/// description.
pub struct Manual {
    /// One line for each form of the command.
    pub synopsis: &'static [&'static str],
    /// The DESCRIPTION section.
    pub description: &'static [Block],
    /// The sections after OPTIONS, each a heading and its text.
    pub sections: &'static [(&'static str, &'static [Block])],
}

/// A part of a section.
#[derive(Clone, Copy)]
pub enum Block {
    /// A paragraph.
    Text(&'static str),
    /// A term and its explanation.
    Item(&'static str, &'static str),
    /// A line to type verbatim.
    Example(&'static str),
}

/// Writes the manual page for `command`.
pub(crate) fn render(command: Command, manual: &Manual) -> Vec<u8> {
    let page = clap_mangen::Man::new(command).manual("portal-chat");
    let mut head = Vec::new();
    let mut options = Vec::new();
    // Writing to memory can't fail.
    let _ = page
        .render_title(&mut head)
        .and_then(|()| page.render_name_section(&mut head))
        .and_then(|()| page.render_options_section(&mut options));
    let mut text = String::from_utf8_lossy(&head).into_owned();
    text.push_str(".SH SYNOPSIS\n");
    for (index, line) in manual.synopsis.iter().enumerate() {
        if index > 0 {
            text.push_str(".br\n");
        }
        text.push_str(&escape(line));
        text.push('\n');
    }
    text.push_str(".SH DESCRIPTION\n");
    push_blocks(&mut text, manual.description);
    text.push_str(&options_section(&String::from_utf8_lossy(&options)));
    for (heading, blocks) in manual.sections {
        text.push_str(&format!(".SH \"{heading}\"\n"));
        push_blocks(&mut text, blocks);
    }
    text.into_bytes()
}

/// Returns the OPTIONS section, with a subsection for each group of options.
fn options_section(rendered: &str) -> String {
    let mut text = String::from(".SH OPTIONS\n");
    for line in rendered.lines() {
        match line.strip_prefix(".SH ") {
            Some("OPTIONS") => {}
            Some(group) => {
                let group = group.trim_matches('"').to_lowercase();
                let mut letters = group.chars();
                let first = letters.next().map(|first| first.to_uppercase().to_string());
                let name = first.unwrap_or_default() + letters.as_str();
                text.push_str(&format!(".SS \"{name}\"\n"));
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn push_blocks(text: &mut String, blocks: &[Block]) {
    for block in blocks {
        let block = match block {
            Block::Text(paragraph) => format!(".PP\n{}\n", escape(paragraph)),
            Block::Item(term, meaning) => {
                format!(".TP\n\\fB{}\\fR\n{}\n", escape(term), escape(meaning))
            }
            Block::Example(line) => format!(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", escape(line)),
        };
        text.push_str(&block);
    }
}

/// Escapes `text` so that roff prints it unchanged: no part of it is read as an escape sequence or
/// a request.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let is_request = text.starts_with(['.', '\'']);
    if is_request {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_usual_sections_in_the_usual_order() {
        let command = Command::new("example")
            .about("An example")
            .arg(clap::Arg::new("x").long("x").help_heading("Group"));
        let manual = Manual {
            synopsis: &["example [--x X]"],
            description: &[Block::Text("Does nothing.")],
            sections: &[
                ("EXIT STATUS", &[Block::Item("0", "It worked.")]),
                ("EXAMPLES", &[Block::Example(".\\x -y")]),
            ],
        };
        let page = String::from_utf8(render(command, &manual)).unwrap();
        let headings: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".SH ").or(line.strip_prefix(".SS ")))
            .collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"Group\"",
            "\"EXIT STATUS\"",
            "\"EXAMPLES\"",
        ];
        assert_eq!(headings, expected);
        assert!(page.contains("\n\\&.\\ex \\-y\n"), "{page}");
    }
}
