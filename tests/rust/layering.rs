//! The layers of `src/lib.rs`, compared with every import; sizes and names of files, those of the Python package too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, its modules, and the layers it may import.
const LAYERS: [(&str, &[&str], &[&str]); 12] = [
    (
        "vocabulary",
        &[
            "change",
            "channel",
            "close",
            "config",
            "error_code",
            "hidden",
            "identity",
            "json",
            "merge_patch",
            "moment",
            "network",
            "own_path",
            "pattern",
            "position",
            "printable",
            "publication",
            "refusal",
            "rights",
            "rules",
            "stats",
            "token_error",
        ],
        &[],
    ),
    ("protocol", &["protocol"], &["vocabulary"]),
    ("session", &["session"], &["vocabulary", "protocol"]),
    ("load", &["load"], &["vocabulary", "protocol"]),
    ("jwt", &["jwt"], &["vocabulary", "protocol"]),
    ("ticket", &["ticket"], &["vocabulary", "protocol", "jwt"]),
    ("broker", &["broker"], &["vocabulary"]),
    ("hub", &["hub"], &["vocabulary", "protocol", "broker"]),
    ("presence", &["presence"], &["vocabulary", "protocol", "broker"]),
    (
        "transport",
        &["transport"],
        &["vocabulary", "protocol", "session", "jwt", "ticket", "broker", "hub", "presence"],
    ),
    (
        "server",
        &["server", "subjects"],
        &["vocabulary", "protocol", "session", "jwt", "ticket", "broker", "hub", "presence", "transport"],
    ),
    (
        "bindings",
        &["bindings"],
        &[
            "vocabulary",
            "protocol",
            "session",
            "jwt",
            "ticket",
            "broker",
            "hub",
            "presence",
            "transport",
            "server",
            "load",
        ],
    ),
];

const FORBIDDEN: [&str; 6] = ["utils", "common", "helpers", "misc", "types", "manager"];

/// Only `src/protocol` knows how a frame begins. All others say what they mean to a `Wire`.
const FRAME_WRITERS: [&str; 3] = ["encode_header", "close_frame", "frame::control"];

/// Lines of a file without its tests.
const LONGEST: usize = 400;

/// Methods of one type, those of traits included.
const MOST_METHODS: usize = 40;

/// Files that the methods of one type are in.
const MOST_PLACES: usize = 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(place: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if !entry.is_dir() {
                found.push(entry);
            } else if !["node_modules", "target", "__pycache__"].iter().any(|name| entry.ends_with(name)) {
                walk(&entry, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(place), &mut found);
    found.retain(|path| path.extension().is_some_and(|it| it == extension));
    assert!(!found.is_empty(), "no {extension} files in {place}");
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The name of the module directly below `place` that a file belongs to.
fn module(path: &Path, place: &str) -> String {
    let inside = path.strip_prefix(root().join(place)).unwrap();
    inside.iter().next().unwrap().to_string_lossy().split('.').next().unwrap().to_owned()
}

fn layer_of(module: &str) -> usize {
    let found = LAYERS.iter().position(|(_, modules, _)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("module {module} is in no layer"))
}

#[test]
fn rust_layers_import_only_what_the_picture_allows() {
    for path in files("src", "rs").into_iter().filter(|path| !path.ends_with("src/lib.rs")) {
        let (layer, _, allowed) = LAYERS[layer_of(&module(&path, "src"))];
        let text = text(&path);
        let imports: BTreeSet<_> = text
            .split("crate::")
            .skip(1)
            .map(|rest| rest.split(|end: char| !(end.is_ascii_lowercase() || end == '_')).next().unwrap())
            .collect();
        for import in imports {
            let (other, ..) = LAYERS[layer_of(import)];
            let legal = other == layer || allowed.contains(&other);
            assert!(legal, "{}: {layer} must not import {import} ({other})", path.display());
        }
        let python = ["pyo3", "Py<"].iter().any(|word| text.contains(word));
        assert!(!python || layer == "bindings", "{} knows Python", path.display());
    }
}

#[test]
fn only_the_protocol_layer_writes_frames() {
    for path in files("src", "rs").into_iter().filter(|path| module(path, "src") != "protocol") {
        let text = code(&path);
        let found = FRAME_WRITERS.into_iter().find(|name| text.contains(name));
        assert_eq!(found, None, "{}: use protocol::wire", path.display());
    }
}

#[test]
fn rust_files_do_not_import_in_a_circle() {
    let sources: BTreeMap<_, _> =
        files("src", "rs").iter().map(|path| (module_path(path), code(path))).collect();
    let mut imports: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (own, text) in &sources {
        let files = paths(own, text, false).into_iter().filter_map(|path| defining(&sources, &path));
        let others = files.filter(|file| *file != own.as_slice()).collect();
        imports.insert(own, others);
    }
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 100, "imports are found");
    while let Some(leaf) = imports.iter().find(|(_, others)| others.is_empty()).map(|(file, _)| *file) {
        imports.remove(leaf);
        for others in imports.values_mut() {
            others.remove(leaf);
        }
    }
    // What is left imports something that is left, so following first imports comes back to a file.
    let Some(mut file) = imports.keys().next().copied() else { return };
    let mut circle = Vec::new();
    while !circle.contains(&file) {
        circle.push(file);
        file = imports[file].first().expect("a file without imports was removed");
    }
    let circle: Vec<_> =
        circle.iter().skip_while(|other| **other != file).map(|file| file.join("::")).collect();
    panic!("a circle of imports: {} → {}", circle.join(" → "), circle[0]);
}

/// A file's code without comments and without its tests.
fn code(path: &Path) -> String {
    let text = text(path);
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
    code.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// `src/hub/feed.rs` is `hub`, `feed`; `src/hub/mod.rs` is `hub`. Tests that are files are `tests`.
fn module_path(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The paths that a module's code names within the crate: of its re-exports, or all the others.
fn paths(own: &[String], text: &str, of_re_exports: bool) -> BTreeSet<Vec<String>> {
    // In a path that begins with neither `crate` nor `self` nor `super`, only a child's name leads to a file.
    let children: Vec<_> =
        text.split("mod ").skip(1).filter_map(|rest| Some(rest.split_once(';')?.0)).collect();
    let is_end = |end: char| !(end.is_alphanumeric() || end == '_');
    let mut found = BTreeSet::new();
    for statement in text.split_inclusive(';') {
        let words: Vec<_> = statement.split_whitespace().collect();
        let is_re_export = words.windows(2).any(|pair| pair[0].starts_with("pub") && pair[1] == "use");
        if is_re_export != of_re_exports {
            continue;
        }
        for (start, _) in statement.char_indices() {
            let before = statement[..start].chars().next_back();
            if before.is_some_and(|it| !is_end(it) || it == ':') {
                continue;
            }
            let first = statement[start..].split(is_end).next().unwrap_or_default();
            let base: Vec<String> = match first {
                "crate" => Vec::new(),
                "self" | "super" => own[..own.len() - usize::from(first == "super")].to_vec(),
                child if children.contains(&child) => [own, &[child.to_owned()]].concat(),
                _ => continue,
            };
            if let Some(rest) = statement[start + first.len()..].strip_prefix("::") {
                expand(base, rest, &mut found);
            }
        }
    }
    found
}

/// Follows one path, into every branch of its braces. Returns what comes after it.
fn expand<'a>(mut path: Vec<String>, mut rest: &'a str, found: &mut BTreeSet<Vec<String>>) -> &'a str {
    loop {
        rest = rest.trim_start();
        if let Some(branches) = rest.strip_prefix('{') {
            rest = branches;
            while !rest.trim_start().starts_with('}') {
                // After a path, `as` may give another name.
                rest = expand(path.clone(), rest, found);
                rest = rest[rest.find([',', '}']).unwrap_or(rest.len())..].trim_start_matches(',');
            }
            return &rest.trim_start()[1..];
        }
        let length = rest.find(|end: char| !(end.is_alphanumeric() || end == '_')).unwrap_or(rest.len());
        match &rest[..length] {
            "super" => drop(path.pop()),
            "self" => {}
            name => path.push(name.to_owned()),
        }
        rest = &rest[length.max(1).min(rest.len())..];
        match rest.strip_prefix("::") {
            Some(deeper) => rest = deeper,
            None => {
                found.insert(path);
                return rest;
            }
        }
    }
}

/// The file that defines what a path names. A re-export is followed to its origin.
fn defining<'a>(sources: &'a BTreeMap<Vec<String>, String>, path: &[String]) -> Option<&'a [String]> {
    let length = (1..=path.len()).rev().find(|&length| sources.contains_key(&path[..length]))?;
    let (file, text) = sources.get_key_value(&path[..length])?;
    let exported = path.get(length).and_then(|name| {
        paths(file, text, true).into_iter().find(|path| path.last() == Some(name) && path.len() > 1)
    });
    match exported {
        Some(exported) if &exported[..] != path => defining(sources, &exported),
        _ => Some(file),
    }
}

#[test]
fn a_module_that_is_a_folder_begins_in_its_mod_rs() {
    for path in files("src", "rs") {
        let folder = path.with_extension("");
        let inside = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let parts: Vec<_> = inside.filter(|name| name != "tests.rs").collect();
        assert!(parts.is_empty(), "{}: move it to mod.rs in {}", path.display(), folder.display());
    }
}

#[test]
fn files_are_small_and_their_names_say_something() {
    let places = [
        ("src", "rs"),
        ("tests", "rs"),
        ("benches", "rs"),
        ("python", "py"),
        ("tests", "py"),
        ("benches", "py"),
    ];
    for (place, extension) in places {
        for path in files(place, extension) {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(!FORBIDDEN.contains(&stem.as_str()), "{}: what is it about?", path.display());
            if (place == "src" || place == "python") && stem != "tests" {
                let lines = text(&path).lines().take_while(|line| *line != "#[cfg(test)]").count();
                assert!(lines <= LONGEST, "{}: {lines} lines", path.display());
            }
        }
    }
}

#[test]
fn no_type_has_many_methods_or_has_them_in_many_files() {
    let sources: BTreeMap<_, _> =
        files("src", "rs").iter().map(|path| (module_path(path), code(path))).collect();
    let mut types: BTreeMap<String, BTreeMap<&[String], usize>> = BTreeMap::new();
    for (file, text) in sources.iter().filter(|(file, _)| !file.contains(&"tests".to_owned())) {
        for (name, methods) in impl_blocks(text) {
            let imported = paths(file, text, false).into_iter().find(|path| path.last() == Some(&name));
            let owner = imported.and_then(|path| defining(&sources, &path)).unwrap_or(file);
            let name = format!("{}::{name}", owner.join("::"));
            *types.entry(name).or_default().entry(file).or_default() += methods;
        }
    }
    assert!(types.len() > 100, "types are found");
    for (name, places) in types {
        let methods: usize = places.values().sum();
        assert!(methods <= MOST_METHODS, "{name} has {methods} methods");
        assert!(places.len() <= MOST_PLACES, "{name} has methods in {:?}", places.keys());
    }
}

/// The type and the number of functions of each `impl` in a file's code, which is formatted.
fn impl_blocks(text: &str) -> Vec<(String, usize)> {
    let is_function = |line: &str| {
        let inner = line.strip_prefix("    ").filter(|line| !line.starts_with(' '));
        let mut words = inner.into_iter().flat_map(str::split_whitespace);
        let before = words.by_ref().take_while(|word| *word != "fn");
        before.into_iter().all(|word| word.starts_with("pub") || ["const", "async"].contains(&word))
            && words.next().is_some()
    };
    let blocks = text.split("\nimpl").skip(1).filter_map(|block| {
        let (head, body) = block.split_once("{\n")?;
        // After the parameters of the block, which may hold an arrow.
        let mut depth = 0;
        let start = head.find(|letter: char| {
            depth += i32::from(letter == '<') - i32::from(letter == '>');
            depth == 0 && letter.is_whitespace()
        })?;
        let named = head[start..].split_once(" for ").map_or(&head[start..], |(_, named)| named);
        let path = named.trim().split(['<', ' ', '\n']).next()?;
        let name = path.rsplit("::").next()?;
        let body = body.split("\n}").next()?;
        Some((name.to_owned(), body.lines().filter(|line| is_function(line)).count()))
    });
    blocks.collect()
}
