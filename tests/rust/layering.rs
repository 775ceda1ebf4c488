//! The layers of `src/lib.rs`, compared with every import; sizes and names of files, those of the Python package too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, its modules, and the layers it may import.
const LAYERS: [(&str, &[&str], &[&str]); 8] = [
    (
        "vocabulary",
        &["channel", "close", "config", "error_code", "json", "moment", "position", "publication", "stats"],
        &[],
    ),
    ("protocol", &["protocol"], &["vocabulary"]),
    ("session", &["session"], &["vocabulary", "protocol"]),
    ("broker", &["broker"], &["vocabulary"]),
    ("hub", &["hub"], &["vocabulary", "protocol", "broker"]),
    ("transport", &["transport"], &["vocabulary", "protocol", "session", "broker", "hub"]),
    ("server", &["server"], &["vocabulary", "protocol", "session", "broker", "hub", "transport"]),
    (
        "bindings",
        &["bindings"],
        &["vocabulary", "protocol", "session", "broker", "hub", "transport", "server"],
    ),
];

const FORBIDDEN: [&str; 6] = ["utils", "common", "helpers", "misc", "types", "manager"];

/// Lines of a file without its tests.
const LONGEST: usize = 600;

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
            if place == "src" || place == "python" {
                let lines = text(&path).lines().take_while(|line| *line != "#[cfg(test)]").count();
                assert!(lines <= LONGEST, "{}: {lines} lines", path.display());
            }
        }
    }
}
