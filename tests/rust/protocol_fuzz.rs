//! Replays the committed corpus of the fuzzers, so that what they once found stays found without a nightly toolchain.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
pub mod targets;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        target(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "{name} has a corpus");
}

#[test]
fn the_corpus_of_every_target_is_harmless() {
    replay("head", targets::head);
    replay("handshake", targets::handshake);
    replay("frames", targets::frames);
    replay("deflate", targets::deflate);
    replay("envelope", targets::envelope);
    replay("hub", targets::hub);
    replay("session", targets::session);
    replay("stream", targets::stream);
}
