//! Compressed messages that arrive in pieces: inflated, judged and counted as they arrive.

use proptest::prelude::*;
use umbel::protocol::ProtocolError::{InterruptedMessage, InvalidDeflate, InvalidText, TooBig};
use umbel::protocol::deflate::{Compressor, Inflater, Parameters, finish_segments, stored};
use umbel::protocol::websocket::WebSocket;

use crate::protocol_client::{LIMIT, Seen, feed, frame, header, inflate, receive};

const DEFLATE: Option<Parameters> = Some(Parameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
});

/// What a message under way holds beside its text: the engine, its window and a little more.
const UNDER_WAY: usize = 50 * 1024;

fn compress(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(6, 15).message(data, &mut out);
    out
}

/// A payload whose bytes stand where they stand in the text, so that a test knows what a piece of it inflates to.
fn plain_blocks(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    stored(data, &mut out);
    finish_segments(&mut out);
    out
}

/// A message in fragments of `size` bytes.
fn fragments(first: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.chunks(size).len();
    let frames = payload.chunks(size).enumerate().map(|(index, piece)| {
        let fin = if index + 1 == count { 0x80 } else { 0 };
        frame(fin | if index == 0 { first } else { 0 }, piece)
    });
    frames.collect()
}

struct Connection {
    websocket: WebSocket,
    inflater: Inflater,
    seen: Vec<Seen>,
}

impl Connection {
    fn new(limit: usize, deflate: Option<Parameters>) -> Self {
        Self { websocket: WebSocket::new(limit, deflate), inflater: Inflater::default(), seen: Vec::new() }
    }

    /// Feeds one read, and returns what is held after it.
    fn feed(&mut self, read: &[u8]) -> usize {
        feed(&mut self.websocket, &mut self.inflater, read, &mut self.seen);
        self.websocket.held_bytes()
    }
}

#[test]
fn a_bomb_in_fragments_is_refused_at_the_fragment_that_passes_the_limit() {
    let bomb = compress(&vec![0; 64 << 20]);
    // Zeros inflate to about a thousand times their size: the second fragment of 600 bytes passes the limit.
    for (limit, refused_at) in [(100, 1), (LIMIT / 2, 1), (LIMIT, 2)] {
        let mut connection = Connection::new(limit, DEFLATE);
        for (index, fragment) in fragments(0x42, &bomb[..6000], 600).iter().take(refused_at).enumerate() {
            assert_eq!(connection.seen, [], "not before fragment {index}");
            let held = connection.feed(fragment);
            assert!(held <= limit + UNDER_WAY, "{held} bytes for a limit of {limit}");
        }
        assert_eq!(connection.seen, [Seen::Failed(TooBig { limit })]);
        assert_eq!(connection.websocket.held_bytes(), 0);
    }
}

#[test]
fn a_bomb_in_one_frame_is_refused_at_the_read_that_passes_the_limit() {
    let frame = frame(0xc2, &compress(&vec![0; 64 << 20]));
    let mut connection = Connection::new(LIMIT, DEFLATE);
    let reads = frame.chunks(64).position(|read| {
        assert!(connection.feed(read) <= LIMIT + UNDER_WAY);
        !connection.seen.is_empty()
    });
    assert_eq!(connection.seen, [Seen::Failed(TooBig { limit: LIMIT })]);
    assert!(reads.is_some_and(|reads| reads * 64 < 1200), "{reads:?}");
}

#[test]
fn the_limit_is_found_at_the_byte_that_passes_it() {
    let wire = plain_blocks(&[7; 101]);
    let mut connection = Connection::new(100, DEFLATE);
    // Five bytes of block header, then the text.
    let (before, rest) = wire.split_at(105);
    connection.feed(&frame(0x42, before));
    assert_eq!(connection.seen, []);
    connection.feed(&frame(0x00, &rest[..1]));
    assert_eq!(connection.seen, [Seen::Failed(TooBig { limit: 100 })]);
    let mut connection = Connection::new(101, DEFLATE);
    for fragment in fragments(0x42, &wire, 10) {
        connection.feed(&fragment);
    }
    assert_eq!(connection.seen, [Seen::Binary(vec![7; 101])]);
}

#[test]
fn compressed_text_fails_at_the_first_impossible_byte_before_its_end() {
    for bad in [&b"\xff"[..], b"\xe0\x80", b"\xed\xa0", b"\xf4\x90", b"\xe2\x82\x28", b"\xf0\x9f\x98\x28"] {
        let text = [&b"ok"[..], bad, &[b'.'; 1000]].concat();
        let wire = plain_blocks(&text);
        let wrong = 5 + 2 + bad.len();
        // In fragments of one byte, and in one frame of which only the beginning arrives.
        let mut in_fragments = Connection::new(LIMIT, DEFLATE);
        let mut in_one = Connection::new(LIMIT, DEFLATE);
        in_one.feed(&header(0xc1, wire.len() as u64));
        let masked = frame(0xc1, &wire);
        let payload = &masked[masked.len() - wire.len()..];
        for (index, fragment) in fragments(0x41, &wire, 1).iter().take(wrong).enumerate() {
            assert_eq!((&in_fragments.seen[..], &in_one.seen[..]), (&[][..], &[][..]), "{bad:x?} at {index}");
            in_fragments.feed(fragment);
            in_one.feed(&payload[index..=index]);
        }
        assert_eq!(in_fragments.seen, [Seen::Failed(InvalidText)], "{bad:x?}");
        assert_eq!(in_one.seen, [Seen::Failed(InvalidText)], "{bad:x?}");
    }
}

#[test]
fn compressed_text_may_not_end_inside_a_code_point() {
    let wire = compress(b"half \xe2\x82");
    for size in [1, 3, wire.len()] {
        let reads = fragments(0x41, &wire, size);
        assert_eq!(receive(DEFLATE, reads.iter().map(|read| &read[..])), [Seen::Failed(InvalidText)]);
    }
}

#[test]
fn what_is_wrong_first_decides_however_the_message_is_cut() {
    // Wrong text, then too much, then no DEFLATE at all: each is the answer when what stands before it is left out.
    let wrong = plain_blocks(b"\xff");
    let wrong = &wrong[..wrong.len() - 1];
    let mut much = Vec::new();
    stored(&vec![b'a'; LIMIT + 1], &mut much);
    let garbage = [0xff; 10];
    for (payload, error) in [
        ([wrong, &much, &garbage].concat(), InvalidText),
        ([&much, wrong, &garbage].concat(), TooBig { limit: LIMIT }),
        ([&garbage, wrong, &much].concat(), InvalidDeflate),
    ] {
        let payload = &payload[..payload.len().min(LIMIT + LIMIT / 8)];
        let failed = [Seen::Failed(error)];
        assert_eq!(receive(DEFLATE, [&frame(0xc1, payload)[..]]), failed);
        for size in [1000, 65_536] {
            assert_eq!(receive(DEFLATE, frame(0xc1, payload).chunks(size)), failed);
            assert_eq!(receive(DEFLATE, [&fragments(0x41, payload, size).concat()[..]]), failed);
        }
    }
}

#[test]
fn pings_between_compressed_fragments_are_answered_at_once() {
    let text = "between ".repeat(100);
    let wire = compress(text.as_bytes());
    let mut connection = Connection::new(LIMIT, DEFLATE);
    let mut expected = Vec::new();
    for (index, fragment) in fragments(0x41, &wire, 5).iter().enumerate() {
        let ping = frame(0x89, &[index as u8]);
        connection.feed(&ping[..3]);
        connection.feed(&ping[3..]);
        expected.push(Seen::Ping(vec![index as u8]));
        assert_eq!(connection.seen, expected);
        connection.feed(fragment);
    }
    expected.push(Seen::Text(text));
    assert_eq!(connection.seen, expected);
}

#[test]
fn other_messages_wait_until_a_compressed_one_is_finished() {
    let wire = compress(b"unfinished");
    for second in [frame(0x81, b"plain"), frame(0xc1, &wire)] {
        let reads = [frame(0x41, &wire[..4]), second];
        assert_eq!(receive(DEFLATE, reads.iter().map(|read| &read[..])), [Seen::Failed(InterruptedMessage)]);
    }
}

#[test]
fn a_message_may_be_cut_at_any_byte_between_reads_and_between_fragments() {
    let text = "{\"title\":\"naïve – 😀\"}".repeat(8);
    let mut wire = Vec::new();
    let mut compressor = Compressor::new(1, 12);
    compressor.segment(&text.as_bytes()[..20], &mut wire);
    stored(&text.as_bytes()[20..25], &mut wire);
    compressor.segment(&text.as_bytes()[25..], &mut wire);
    finish_segments(&mut wire);
    let expected = [Seen::Text(text)];
    let whole = frame(0xc1, &wire);
    for cut in 0..=whole.len() {
        assert_eq!(receive(DEFLATE, [&whole[..cut], &whole[cut..]]), expected, "read cut at {cut}");
    }
    for cut in 0..=wire.len() {
        let cut_message = [frame(0x41, &wire[..cut]), frame(0x80, &wire[cut..])].concat();
        assert_eq!(receive(DEFLATE, [&cut_message[..]]), expected, "fragments cut at {cut}");
        assert_eq!(receive(DEFLATE, cut_message.chunks(1)), expected, "fragments cut at {cut}");
    }
}

#[test]
fn a_thousand_small_messages_leave_nothing_behind() {
    let mut connection = Connection::new(LIMIT, DEFLATE);
    for round in 0..1000 {
        let text = format!("message {round}");
        let wire = compress(text.as_bytes());
        let bytes = if round % 2 == 0 { frame(0xc1, &wire) } else { fragments(0x41, &wire, 4).concat() };
        for read in bytes.chunks(1 + round % 20) {
            connection.feed(read);
        }
        assert_eq!(connection.seen.pop(), Some(Seen::Text(text)));
        assert_eq!((connection.websocket.held_bytes(), connection.websocket.is_mid_message()), (0, false));
    }
    assert_eq!(connection.seen, []);
}

#[test]
fn truncated_messages_are_refused_at_their_end() {
    let wire = compress("a sentence that is long enough, a sentence. ".repeat(9).as_bytes());
    for end in 0..wire.len() {
        for size in [1, 7, 1000] {
            let mut reads = fragments(0x01 | 0x40, &wire[..end], size);
            if end == 0 {
                reads = vec![frame(0x41, b""), frame(0x80, b"")];
            }
            assert_eq!(
                receive(DEFLATE, reads.iter().map(|read| &read[..])),
                [Seen::Failed(InvalidDeflate)],
                "cut at {end}, fragments of {size}"
            );
        }
    }
}

#[test]
fn what_follows_a_final_block_goes_on_in_the_same_window() {
    // RFC 7692 §7.2.3.4 with and without its zero byte, then a final block in the middle, then nonsense behind one.
    let hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    let text = |text: &str| Seen::Text(text.to_owned());
    for (payload, expected) in [
        (hello.to_vec(), text("Hello")),
        ([&hello[..], b"\x00"].concat(), text("Hello")),
        ([hello, &hello[..], b"\x00"].concat(), text("HelloHello")),
        ([&hello[..], &plain_blocks(b"!")].concat(), text("Hello!")),
        ([&hello[..], b"\xff\xff"].concat(), Seen::Failed(InvalidDeflate)),
        (b"\x03\x00".repeat(1000), Seen::Failed(InvalidDeflate)),
    ] {
        let expected = [expected];
        assert_eq!(receive(DEFLATE, [&frame(0xc1, &payload)[..]]), expected);
        for size in [1, 2, 7] {
            assert_eq!(receive(DEFLATE, frame(0xc1, &payload).chunks(size)), expected);
            let cut = fragments(0x41, &payload, size).concat();
            assert_eq!(receive(DEFLATE, [&cut[..]]), expected);
        }
    }
}

#[test]
fn a_message_under_way_holds_an_inflater_and_its_text_and_says_so() {
    let mut connection = Connection::new(LIMIT, DEFLATE);
    let text = "words ".repeat(100_000);
    let wire = compress(text.as_bytes());
    // A declared message costs next to nothing, one that has begun an inflater, one that has arrived its text.
    let bytes = frame(0xc1, &wire);
    let (header, payload) = bytes.split_at(bytes.len() - wire.len());
    assert!(connection.feed(header) < 512);
    let begun = connection.feed(&payload[..1]);
    assert!((32 * 1024..UNDER_WAY).contains(&begun), "{begun}");
    // Meanwhile the shard's inflater serves others.
    let other = inflate(&mut connection.inflater, &compress(b"someone else"), LIMIT);
    assert_eq!(other, Ok(b"someone else".to_vec()));
    for read in payload[1..].chunks(100) {
        let held = connection.feed(read);
        assert!(held <= text.len() * 5 / 4 + UNDER_WAY);
        assert!(connection.seen.len() == 1 || held >= begun);
    }
    assert_eq!(connection.seen, [Seen::Text(text)]);
    assert_eq!(connection.websocket.held_bytes(), 0);
}

#[test]
fn an_inflater_goes_with_the_message_that_failed() {
    for bad in [frame(0x88, b"\x03\xe8"), frame(0x00, &[0xff; 30]), vec![0xff]] {
        let mut connection = Connection::new(LIMIT, DEFLATE);
        assert!(connection.feed(&frame(0x41, &compress(b"begun")[..3])) > 32 * 1024);
        assert_eq!(connection.feed(&bad), 0);
        assert_eq!(connection.seen.len(), 1);
    }
}

#[test]
fn a_client_that_takes_its_context_over_may_cut_its_messages() {
    let takeover =
        Parameters { client_no_context_takeover: false, client_max_window_bits: 9, ..Parameters::default() };
    let mut engine = flate2::Compress::new_with_window_bits(flate2::Compression::new(6), false, 9);
    let mut connection = Connection::new(LIMIT, Some(takeover));
    for round in 1..60 {
        let text = format!("{{\"type\":\"heartbeat\",\"id\":{round}}}").repeat(round);
        let mut wire = Vec::with_capacity(text.len() + 100);
        engine.compress_vec(text.as_bytes(), &mut wire, flate2::FlushCompress::Sync).unwrap();
        wire.truncate(wire.len() - 4);
        // The shard's inflater has served someone else.
        inflate(&mut connection.inflater, &compress(b"someone else"), LIMIT).unwrap();
        for read in fragments(0x41, &wire, 11).concat().chunks(1 + round % 9) {
            connection.feed(read);
        }
        assert_eq!(connection.seen.pop(), Some(Seen::Text(text)));
        assert!(connection.websocket.held_bytes() <= 1200, "{}", connection.websocket.held_bytes());
    }
    assert_eq!(connection.seen, []);
}

/// Blocks of text and of bytes that are not text, most of them whole and some of them damaged.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[ab é€😀]{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (1_usize..4000).prop_map(|length| vec![b'z'; length]),
    ];
    let parts = prop::collection::vec((any::<bool>(), part), 0..6);
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let end = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (parts, damage, end).prop_map(|(parts, damage, end)| {
        let mut wire = Vec::new();
        let mut compressor = Compressor::new(1, 12);
        for (compressed, data) in &parts {
            if *compressed { compressor.segment(data, &mut wire) } else { stored(data, &mut wire) }
        }
        finish_segments(&mut wire);
        if let Some((index, byte)) = damage {
            *index.get_mut(&mut wire) = byte;
        }
        if let Some(end) = end {
            wire.truncate(end.index(wire.len()).max(1));
        }
        wire
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_outcome_does_not_depend_on_fragments_or_reads(
        payload in payload(),
        first in prop::sample::select(vec![0x41_u8, 0x42]),
        limit in prop_oneof![Just(LIMIT), 0_usize..5000],
        takeover in any::<bool>(),
        (fragment, read) in (1_usize..40, 1_usize..40),
    ) {
        let parameters = Parameters { client_no_context_takeover: !takeover, ..Parameters::default() };
        let outcome = |reads: std::slice::Chunks<'_, u8>| {
            let mut connection = Connection::new(limit, Some(parameters));
            for read in reads {
                assert!(connection.feed(read) <= limit + UNDER_WAY + 32 * 1024);
            }
            connection.seen
        };
        // Twice, so that a window that was taken over matters.
        let whole = frame(0x80 | first, &payload).repeat(2);
        let expected = outcome(whole.chunks(whole.len()));
        prop_assert_eq!(&outcome(whole.chunks(1)), &expected);
        prop_assert_eq!(&outcome(whole.chunks(read)), &expected);
        // A header that declares too much is refused before its payload, which may be wrong for another reason.
        if payload.len() <= limit {
            let cut = fragments(first, &payload, fragment).concat().repeat(2);
            prop_assert_eq!(&outcome(cut.chunks(cut.len())), &expected);
            prop_assert_eq!(&outcome(cut.chunks(1)), &expected);
            prop_assert_eq!(&outcome(cut.chunks(read)), &expected);
        }
    }
}
