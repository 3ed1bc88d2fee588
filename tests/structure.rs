//! No two files of `src` import each other, straight or in a round: whoever reads a file can read what
//! it stands on first. Checked from the `use` lines, tests aside.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// Every module of the crate, with the text of its file but for the tests in it.
fn modules(folder: &Path, at: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "bin" {
                let inner: Module = at.iter().cloned().chain([name]).collect();
                modules(&path, &inner, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_folder = matches!(name.as_str(), "mod" | "lib");
            let module = at
                .iter()
                .cloned()
                .chain((!is_folder).then_some(name))
                .collect();
            let text = fs::read_to_string(&path).unwrap();
            let tests = [
                "#[cfg(test)]\nmod ",
                "#[cfg(test)]\npub(crate) mod ",
                "#[cfg(test)]\npub(super) mod ",
            ];
            let end = tests.iter().filter_map(|begin| text.find(begin)).min();
            let code: Vec<&str> = text[..end.unwrap_or(text.len())]
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            found.insert(module, code.join("\n"));
        }
    }
}

/// The paths of `use` lines: `use a::{b, c::d};` is `a::b` and `a::c::d`. With those that are handed on
/// (`pub use`) apart.
fn imports(code: &str) -> (Vec<Module>, Vec<Module>) {
    let (mut own, mut handed_on) = (Vec::new(), Vec::new());
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let after = &rest[at + "use ".len()..];
        let end = after.find(';').unwrap_or(after.len());
        if before.is_empty() || before.starts_with("pub") {
            let tree: String = after[..end]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            let into = if before.is_empty() {
                &mut own
            } else {
                &mut handed_on
            };
            flatten(&tree, &[], into);
        }
        rest = &after[end..];
    }
    (own, handed_on)
}

fn flatten(tree: &str, before: &[String], paths: &mut Vec<Module>) {
    let Some((head, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        let names = path.split("::").map(|name| name.trim().to_owned());
        paths.push(before.iter().cloned().chain(names).collect());
        return;
    };
    let head: Module = before
        .iter()
        .cloned()
        .chain(head.split("::").map(|name| name.trim().to_owned()))
        .filter(|name| !name.is_empty())
        .collect();
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut part) = (0, String::new());
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            flatten(part.trim(), &head, paths);
            part.clear();
        } else {
            part.push(character);
        }
    }
    if !part.trim().is_empty() {
        flatten(part.trim(), &head, paths);
    }
}

/// A path as one from the crate's root; `None` if it leads out of the crate.
fn absolute(path: &[String], module: &Module) -> Option<Module> {
    let mut base: Module = match path[0].as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" | "super" => module.clone(),
        _ => return None,
    };
    let mut rest = path;
    while let Some(("self" | "super", after)) = rest
        .split_first()
        .map(|(first, after)| (first.as_str(), after))
    {
        if rest[0] == "super" {
            base.pop();
        }
        rest = after;
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The file in which something lies: the longest module on its way; through what that hands on, the
/// file where it comes from.
fn file_of(
    path: &Module,
    found: &BTreeMap<Module, String>,
    handed_on: &BTreeMap<Module, BTreeMap<String, Module>>,
    depth: usize,
) -> Option<Module> {
    let length = (0..=path.len())
        .rev()
        .find(|&length| found.contains_key(&path[..length]))?;
    let (module, rest) = path.split_at(length);
    let module = module.to_vec();
    if let Some(name) = rest.first()
        && let Some(from) = handed_on.get(&module).and_then(|names| names.get(name))
        && depth < 9
    {
        let further: Module = from.iter().chain(&rest[1..]).cloned().collect();
        return file_of(&further, found, handed_on, depth + 1);
    }
    Some(module)
}

#[test]
fn no_two_files_import_each_other() {
    let mut found = BTreeMap::new();
    modules(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &Vec::new(),
        &mut found,
    );
    let mut handed_on = BTreeMap::new();
    let mut own = BTreeMap::new();
    for (module, code) in &found {
        let (imported, passed) = imports(code);
        let names: BTreeMap<String, Module> = passed
            .iter()
            .filter_map(|path| {
                let to = absolute(path, module).or_else(|| {
                    let child: Module = module.iter().chain(path).cloned().collect();
                    found
                        .contains_key(&child[..module.len() + 1])
                        .then_some(child)
                })?;
                Some((path.last()?.clone(), to))
            })
            .collect();
        handed_on.insert(module.clone(), names);
        own.insert(module.clone(), imported);
    }
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, paths) in &own {
        let to = paths
            .iter()
            .filter_map(|path| absolute(path, module))
            .filter_map(|path| file_of(&path, &found, &handed_on, 0))
            .filter(|to| to != module && !to.is_empty());
        edges.insert(module.clone(), to.collect());
    }
    assert!(
        edges.values().map(BTreeSet::len).sum::<usize>() > 200,
        "the imports were read"
    );
    // What imports nothing that is left can be read first; in the end nothing may be left.
    let mut left: BTreeSet<&Module> = edges.keys().collect();
    loop {
        let first: Vec<&Module> = left
            .iter()
            .copied()
            .filter(|module| edges[*module].iter().all(|to| !left.contains(to)))
            .collect();
        if first.is_empty() {
            break;
        }
        for module in first {
            left.remove(module);
        }
    }
    let left: Vec<String> = left.into_iter().map(|module| module.join("/")).collect();
    assert!(
        left.is_empty(),
        "in a circle, or above one: {}",
        left.join(", ")
    );
}
