//! The settings of a server in a test: those of `config.json`, which are the defaults of Python's `Settings` (a Python test
//! compares the two), and what the test changes.

use serde_json::Value;

/// The JSON that `Config::from_json` reads. Each of `changes` is an object; the later ones win.
pub fn settings(changes: &[&Value]) -> Vec<u8> {
    let mut config: Value = serde_json::from_str(include_str!("config.json")).expect("JSON");
    for (name, value) in changes.iter().flat_map(|change| change.as_object().expect("settings")) {
        config[name] = value.clone();
    }
    config.to_string().into_bytes()
}
