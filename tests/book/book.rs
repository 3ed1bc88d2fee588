//! `make book`: the lessons, the tasks and the guide as web pages that work when opened as files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

/// The parts of the book: a heading, and the pages in reading order. A folder means the Markdown
/// files in it, sorted by name.
const PARTS: [(&str, &[&str]); 3] = [
    (
        "Learn",
        &["src/lesson/ladder", "src/lesson/lesson-of-90-minutes.md"],
    ),
    (
        "Build your own",
        &["src/guide/build-it-yourself.md", "src/lesson/tasks"],
    ),
    (
        "Use it",
        &[
            "README.md",
            "src/guide/chatting.md",
            "src/guide/on-a-network.md",
            "src/guide/keeping-order.md",
            "src/guide/behind-a-proxy.md",
            "src/guide/security.md",
            "src/guide/seeds.md",
            "src/guide/board.md",
            "src/guide/chatserver.md",
            "src/guide/chatclient.md",
            "src/guide/chatcheck.md",
            "src/guide/glossary.md",
            "src/protocol.md",
            "src/guide/reading-the-code.md",
            "src/guide/contributing.md",
            "src/guide/changelog.md",
        ],
    ),
];

const STYLE: &str = include_str!("book.css");
const SCRIPT: &str = include_str!("book.js");

struct Page {
    /// The Markdown file, from the project's folder.
    source: PathBuf,
    /// The file in the book.
    file: String,
    title: String,
    markdown: String,
}

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder to write into"));
    let parts = parts();
    let files: BTreeMap<PathBuf, String> = parts
        .iter()
        .flat_map(|(_, pages)| pages)
        .map(|page| (page.source.clone(), page.file.clone()))
        .collect();
    fs::create_dir_all(&folder).expect("a folder to write into");
    let mut index = Vec::new();
    for (_, pages) in &parts {
        for page in pages {
            let (body, text) = render(page, &files, &folder);
            index.push(serde_json::json!({ "f": page.file, "t": page.title, "x": text }));
            let html = document(page, &body, &parts);
            fs::write(folder.join(&page.file), html).expect("a page to write");
        }
    }
    let search = format!("const INDEX = {};\n{SCRIPT}", serde_json::json!(index));
    fs::write(folder.join("book.js"), search).expect("a script to write");
    fs::write(folder.join("book.css"), STYLE).expect("a style sheet to write");
    let first = &parts[0].1[0].file;
    fs::write(
        folder.join("index.html"),
        format!("<!DOCTYPE html><meta http-equiv=\"refresh\" content=\"0; url={first}\">\n"),
    )
    .expect("an index to write");
    let index = fs::canonicalize(folder.join("index.html")).expect("the index");
    println!("{} pages. Open file://{}", files.len(), index.display());
    ExitCode::SUCCESS
}

fn parts() -> Vec<(&'static str, Vec<Page>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = |sources: &[&str]| {
        let mut found = Vec::new();
        for source in sources {
            let source = Path::new(source);
            if root.join(source).is_dir() {
                let mut inside: Vec<PathBuf> = fs::read_dir(root.join(source))
                    .unwrap()
                    .map(|entry| source.join(entry.unwrap().file_name()))
                    .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
                    .collect();
                inside.sort();
                found.extend(inside);
            } else {
                found.push(source.to_owned());
            }
        }
        found.into_iter().map(|source| page(root, source)).collect()
    };
    PARTS
        .map(|(heading, sources)| (heading, pages(sources)))
        .into()
}

fn page(root: &Path, source: PathBuf) -> Page {
    let markdown = fs::read_to_string(root.join(&source)).expect("a page of the project");
    let title = markdown.lines().find_map(|line| line.strip_prefix("# "));
    let name = source.file_stem().unwrap().to_str().unwrap().to_lowercase();
    let folder = source.parent().and_then(Path::file_name);
    let prefix = match folder.and_then(|folder| folder.to_str()) {
        Some("tasks") => "task-",
        _ => "",
    };
    Page {
        title: title.unwrap_or(&name).replace('`', ""),
        file: format!("{prefix}{name}.html"),
        source,
        markdown,
    }
}

/// The page's HTML and its text for the search.
fn render(page: &Page, files: &BTreeMap<PathBuf, String>, folder: &Path) -> (String, String) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES;
    let mut text = String::new();
    let events = Parser::new_ext(&page.markdown, options).map(|event| {
        if let Event::Text(piece) | Event::Code(piece) = &event {
            text.push_str(piece);
            text.push(' ');
        }
        match event {
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => Event::Start(Tag::Link {
                link_type,
                dest_url: target(page, &dest_url, files, folder).into(),
                title,
                id,
            }),
            Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                let there = resolve(page, &dest_url);
                let name = there.file_name().unwrap().to_str().unwrap().to_owned();
                let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(&there);
                fs::copy(from, folder.join(&name)).expect("a picture to copy");
                Event::Start(Tag::Image {
                    link_type,
                    dest_url: CowStr::from(name),
                    title,
                    id,
                })
            }
            event => event,
        }
    });
    let mut body = String::new();
    html::push_html(&mut body, events);
    (with_anchors(&body), text)
}

/// Resolves a path relative to a page, and returns it relative to the project's folder.
fn resolve(page: &Page, relative: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in page.source.parent().unwrap().join(relative).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// Returns the target of a link in the book: one of its pages, or a file of the project.
fn target(page: &Page, url: &str, files: &BTreeMap<PathBuf, String>, folder: &Path) -> String {
    if url.contains("://") || url.starts_with('#') {
        return url.to_owned();
    }
    let (path, anchor) = match url.split_once('#') {
        Some((path, anchor)) => (path, format!("#{anchor}")),
        None => (url, String::new()),
    };
    let path = resolve(page, path);
    match files.get(&path) {
        Some(file) => format!("{file}{anchor}"),
        None => {
            let root = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap();
            let is_inside = fs::canonicalize(folder).is_ok_and(|book| book.parent() == Some(&root));
            let up = if is_inside {
                "..".to_owned()
            } else {
                format!("file://{}", root.display())
            };
            format!("{up}/{}{anchor}", path.display())
        }
    }
}

/// Gives each heading the id that a link to it uses.
fn with_anchors(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    for line in body.split_inclusive('\n') {
        let heading = ["<h2>", "<h3>"]
            .iter()
            .find_map(|tag| line.strip_prefix(tag).map(|rest| (*tag, rest)));
        match heading {
            Some((tag, rest)) => {
                let inside = rest.split("</h").next().unwrap_or(rest);
                let mut is_tag = false;
                let plain = inside.chars().filter(|character| {
                    is_tag |= *character == '<';
                    let shown = !is_tag;
                    is_tag &= *character != '>';
                    shown
                });
                let id: String = plain
                    .filter_map(|character| match character {
                        ' ' | '-' => Some('-'),
                        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
                        _ => None,
                    })
                    .collect();
                let _ = write!(out, "{} id=\"{id}\">{rest}", tag.trim_end_matches('>'));
            }
            None => out.push_str(line),
        }
    }
    out
}

fn document(page: &Page, body: &str, parts: &[(&str, Vec<Page>)]) -> String {
    let mut navigation = String::new();
    let mut order = Vec::new();
    for (heading, pages) in parts {
        let _ = write!(navigation, "<h2>{heading}</h2>\n<ul>\n");
        for other in pages {
            let current = if other.file == page.file {
                " aria-current=\"page\""
            } else {
                ""
            };
            let title = escape(&other.title);
            let _ = writeln!(
                navigation,
                "<li><a href=\"{}\"{current}>{title}</a></li>",
                other.file
            );
            order.push(other);
        }
        navigation.push_str("</ul>\n");
    }
    let here = order
        .iter()
        .position(|other| other.file == page.file)
        .unwrap();
    let link = |index: Option<usize>, label: &str| {
        index
            .and_then(|index| order.get(index))
            .map_or_else(String::new, |other| {
                format!(
                    "<a href=\"{}\">{label}: {}</a>",
                    other.file,
                    escape(&other.title)
                )
            })
    };
    let (before, after) = (
        link(here.checked_sub(1), "Previous"),
        link(Some(here + 1), "Next"),
    );
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><link rel=\"stylesheet\" href=\"book.css\"></head>\n<body>\n\
         <nav aria-label=\"Pages\"><label>Search <input type=\"search\" id=\"search\"></label>\
         <ol id=\"found\"></ol>\n{navigation}</nav>\n<main>\n{body}\
         <p class=\"turn\">{before}{after}</p>\n</main>\n\
         <script src=\"book.js\"></script></body></html>\n",
        escape(&page.title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
