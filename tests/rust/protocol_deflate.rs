//! permessage-deflate: negotiation, whole messages, limits, segments.

use proptest::prelude::*;
use umbel::protocol::ProtocolError;
use umbel::protocol::deflate::{
    Compressor, DeflatePolicy, Inflater, Parameters, finish_segments, negotiate, stored,
};
use umbel::protocol::websocket::WebSocket;

use crate::protocol_client::{LIMIT, Seen, feed, frame, inflate, receive};

fn compress(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(6, 15).message(data, &mut out);
    out
}

fn answer(offers: &[&str]) -> Option<String> {
    negotiate(offers.iter().copied(), &DeflatePolicy::default()).unwrap().map(|(_, response)| response)
}

const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn acceptable_offers_are_answered() {
    let with = |more: &str| Some(format!("{BOTH}{more}"));
    for (offer, expected) in [
        ("permessage-deflate", with("")),
        ("Permessage-Deflate;Client_Max_Window_Bits", with("")),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            with("; server_max_window_bits=10"),
        ),
        ("permessage-deflate ; client_max_window_bits = \"9\"", with("; client_max_window_bits=9")),
        ("permessage-deflate; server_max_window_bits=\"1\\5\"", with("; server_max_window_bits=15")),
        ("x-webkit-deflate-frame, , permessage-deflate; server_no_context_takeover", with("")),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", with("")),
    ] {
        assert_eq!(answer(&[offer]), expected, "{offer}");
    }
}

#[test]
fn unacceptable_offers_are_declined_and_the_next_one_is_tried() {
    for bad in [
        "client_max_window_bits=7",
        "client_max_window_bits=8",
        "client_max_window_bits=16",
        "client_max_window_bits=abc",
        "client_max_window_bits=09",
        "client_max_window_bits; client_max_window_bits=10",
        "server_max_window_bits",
        "server_max_window_bits=8",
        "server_max_window_bits=16",
        "server_max_window_bits=10;server_max_window_bits=10",
        "server_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=true",
        "client_no_context_takeover; client_no_context_takeover",
        "unknown",
        "unknown=1",
        "server_max_window_bits=99999999999999999999",
    ] {
        let offer = format!("permessage-deflate; {bad}");
        assert_eq!(answer(&[&offer]), None, "{offer}");
        assert_eq!(answer(&[&format!("{offer}, permessage-deflate")]).as_deref(), Some(BOTH), "{offer}");
        assert_eq!(answer(&[&offer, "permessage-deflate"]).as_deref(), Some(BOTH), "{offer}");
    }
    assert_eq!(answer(&[]), None);
    assert_eq!(answer(&["", " , "]), None);
    assert_eq!(answer(&["permessage-bzip2"]), None);
}

#[test]
fn malformed_offers_are_errors_and_long_ones_cost_little() {
    for bad in [
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate;",
        "permessage-deflate; =1",
        ";",
        "a b",
        "permessage-deflate; x=\"\"",
        "permessage-deflate; x=\"a b\"",
        "permessage-deflate; x=\"a\\",
        "é",
        "\"a\"",
        "a; b=",
    ] {
        assert!(negotiate([bad], &DeflatePolicy::default()).is_err(), "{bad}");
    }
    let thousand = vec!["permessage-deflate; client_max_window_bits=8"; 1000].join(",");
    assert_eq!(answer(&[&thousand]), None);
    let last = format!("{thousand}, permessage-deflate");
    assert_eq!(answer(&[&last]).as_deref(), Some(BOTH));
}

#[test]
fn the_policy_bounds_the_answer() {
    let policy = DeflatePolicy {
        client_context_takeover: true,
        server_max_window_bits: 11,
        client_max_window_bits: 12,
    };
    let chosen = |offer| negotiate([offer], &policy).unwrap().unwrap();
    let (parameters, response) =
        chosen("permessage-deflate; client_max_window_bits; server_max_window_bits=15");
    assert_eq!(
        response,
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=11; client_max_window_bits=12"
    );
    assert!(!parameters.client_no_context_takeover);
    assert_eq!((parameters.server_max_window_bits, parameters.client_max_window_bits), (11, 12));
    // What the client did not say it understands is not named.
    let (parameters, response) = chosen("permessage-deflate; client_no_context_takeover");
    assert_eq!(response, BOTH);
    assert_eq!(parameters, Parameters::default());
}

#[test]
fn compressed_messages_arrive_whole_in_fragments_and_beside_others() {
    let long = "tick ".repeat(10_000);
    let wire = compress(long.as_bytes());
    let (first, second) = wire.split_at(wire.len() / 2);
    let bytes = [
        frame(0xc1, &compress(b"one")),
        frame(0x81, b"plain"),
        frame(0x41, first),
        frame(0x89, b"between"),
        frame(0x80, second),
        frame(0xc2, &compress(b"")),
        frame(0xc1, &compress(b"last")),
    ]
    .concat();
    let expected = [
        Seen::Text("one".into()),
        Seen::Text("plain".into()),
        Seen::Ping(b"between".to_vec()),
        Seen::Text(long),
        Seen::Binary(vec![]),
        Seen::Text("last".into()),
    ];
    let deflate = Some(Parameters::default());
    assert_eq!(receive(deflate, [&bytes[..]]), expected);
    assert_eq!(receive(deflate, bytes.chunks(1)), expected);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    let bomb = compress(&zeros);
    assert!(bomb.len() < 128 * 1024);
    let mut inflater = Inflater::default();
    for limit in [0, 1, 1000, 16 * 1024, LIMIT] {
        // As large as it can be without being refused for the length that its frame declares.
        let bomb = compress(&zeros[..zeros.len().min((limit + 1) * 1000)]);
        assert_eq!(inflate(&mut inflater, &bomb, limit), Err(ProtocolError::TooBig { limit }));
        assert!(inflater.held_bytes() <= limit.max(64 * 1024) + 64 * 1024, "{}", inflater.held_bytes());
    }
    inflater.release();
    assert!(inflater.held_bytes() <= 64 * 1024);
    let (first, rest) = bomb.split_at(500);
    let bytes = [frame(0x42, first), frame(0x89, b""), frame(0x00, b""), frame(0x80, rest)].concat();
    let failed = Seen::Failed(ProtocolError::TooBig { limit: LIMIT });
    assert_eq!(receive(Some(Parameters::default()), [&bytes[..]]), [Seen::Ping(vec![]), failed]);
}

#[test]
fn the_limit_counts_the_inflated_message_to_the_byte() {
    let mut inflater = Inflater::default();
    for length in [0_usize, 1, 100, 16 * 1024, 64 * 1024, 100_000] {
        let data: Vec<u8> = (0..length).map(|index| ((index * index) >> 3) as u8).collect();
        assert_eq!(inflate(&mut inflater, &compress(&data), length).as_ref(), Ok(&data));
        if length > 0 {
            let limit = length - 1;
            assert_eq!(inflate(&mut inflater, &compress(&data), limit), Err(ProtocolError::TooBig { limit }));
        }
    }
}

#[test]
fn incompressible_messages_up_to_the_limit_are_accepted() {
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..LIMIT)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    for level in [1, 3, 6, 9] {
        let mut wire = Vec::new();
        Compressor::new(level, 15).message(&noise, &mut wire);
        assert_eq!(
            receive(Some(Parameters::default()), [&frame(0xc2, &wire)[..]]),
            [Seen::Binary(noise.clone())]
        );
    }
}

#[test]
fn final_blocks_are_accepted() {
    let mut inflater = Inflater::default();
    // RFC 7692 §7.2.3.4: BFINAL and the byte after it; then without that byte.
    for payload in [&b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"[..], b"\xf3\x48\xcd\xc9\xc9\x07\x00"] {
        assert_eq!(inflate(&mut inflater, payload, LIMIT), Ok(b"Hello".to_vec()));
    }
    // §7.2.3.3: a stored block; §7.2.3.5: two blocks; then a final block in the middle.
    for (payload, expected) in [
        (&b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"[..], &b"Hello"[..]),
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", b"HelloHello"),
    ] {
        assert_eq!(inflate(&mut inflater, payload, LIMIT), Ok(expected.to_vec()));
    }
}

#[test]
fn a_flood_of_final_blocks_is_refused() {
    let flood = b"\x03\x00".repeat(100_000);
    assert_eq!(inflate(&mut Inflater::default(), &flood, LIMIT), Err(ProtocolError::InvalidDeflate));
}

#[test]
fn truncated_and_mutated_streams_are_errors_or_messages_never_panics() {
    let data = "a sentence that is long enough to use a dynamic block, a sentence. ".repeat(9);
    let wire = compress(data.as_bytes());
    let mut inflater = Inflater::default();
    for end in 0..wire.len() {
        assert_eq!(
            inflate(&mut inflater, &wire[..end], LIMIT),
            Err(ProtocolError::InvalidDeflate),
            "cut at {end}"
        );
    }
    for index in 0..wire.len() {
        for bit in 0..8 {
            let mut mutated = wire.clone();
            mutated[index] ^= 1 << bit;
            let _ = inflate(&mut inflater, &mutated, LIMIT);
        }
    }
    // A distance beyond history: a match first of all, in a block of fixed codes.
    assert_eq!(inflate(&mut inflater, b"\x02\x02\x00", LIMIT), Err(ProtocolError::InvalidDeflate));
    assert_eq!(inflate(&mut inflater, data.as_bytes(), LIMIT), Err(ProtocolError::InvalidDeflate));
    assert_eq!(inflate(&mut inflater, &wire, LIMIT), Ok(data.into_bytes()));
}

#[test]
fn compressed_text_must_be_text() {
    let failed = Seen::Failed(ProtocolError::InvalidText);
    assert_eq!(receive(Some(Parameters::default()), [&frame(0xc1, &compress(b"\xff"))[..]]), [failed]);
}

#[test]
fn one_message_never_sees_the_window_of_another() {
    let mut engine = flate2::Compress::new(flate2::Compression::new(6), false);
    let (first, second) =
        (with_takeover(&mut engine, b"the same words"), with_takeover(&mut engine, b"the same words"));
    let mut inflater = Inflater::default();
    assert_eq!(inflate(&mut inflater, &first, LIMIT), Ok(b"the same words".to_vec()));
    assert_eq!(inflate(&mut inflater, &second, LIMIT), Err(ProtocolError::InvalidDeflate));
}

#[test]
fn context_takeover_keeps_no_more_than_the_window() {
    let takeover =
        Parameters { client_no_context_takeover: false, client_max_window_bits: 9, ..Parameters::default() };
    let mut engine = flate2::Compress::new_with_window_bits(flate2::Compression::new(6), false, 9);
    let mut websocket = WebSocket::new(LIMIT, Some(takeover));
    let mut inflater = Inflater::default();
    assert_eq!(websocket.held_bytes(), 0);
    for round in 0..50 {
        let text = format!("{{\"type\":\"heartbeat\",\"id\":{round}}}").repeat(round);
        let wire = with_takeover(&mut engine, text.as_bytes());
        let mut seen = Vec::new();
        // Another connection uses the same inflater in between.
        inflate(&mut inflater, &compress(b"someone else"), LIMIT).unwrap();
        feed(&mut websocket, &mut inflater, &frame(0xc1, &wire), &mut seen);
        assert_eq!(seen, [Seen::Text(text)]);
        assert!(websocket.held_bytes() <= 1200, "{}", websocket.held_bytes());
    }
}

fn with_takeover(engine: &mut flate2::Compress, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 100);
    engine.compress_vec(data, &mut out, flate2::FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

/// Inflates through an output buffer of 16 bytes, so that everything older is in the window, and a distance that is too
/// large for it fails.
fn inflate_in_window(wire: &[u8], window_bits: u8) -> Vec<u8> {
    let mut engine = flate2::Decompress::new_with_window_bits(false, window_bits);
    let mut inflated = Vec::new();
    loop {
        let mut buffer = [0; 16];
        let before = (engine.total_in() as usize, engine.total_out() as usize);
        let result = engine.decompress(&wire[before.0..], &mut buffer, flate2::FlushDecompress::None);
        let made = engine.total_out() as usize - before.1;
        inflated.extend_from_slice(&buffer[..made]);
        result.unwrap();
        if made == 0 && engine.total_in() as usize == before.0 {
            return inflated;
        }
    }
}

fn part() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let data = prop_oneof![
        "[a-c]{0,1500}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..300),
        Just(b"\x00\x00\xff\xff".to_vec()),
        Just(vec![7; 70_000]),
    ];
    (any::<bool>(), data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_mix_of_segments_and_stored_blocks_is_the_concatenation(parts in prop::collection::vec(part(), 0..6)) {
        let expected: Vec<u8> = parts.iter().flat_map(|(_, data)| data.clone()).collect();
        let mut inflater = Inflater::default();
        for window_bits in 9..=15 {
            let mut compressor = Compressor::new(1 + u32::from(window_bits) % 9, window_bits);
            let mut wire = Vec::new();
            for (compressed, data) in &parts {
                if *compressed { compressor.segment(data, &mut wire) } else { stored(data, &mut wire) }
            }
            finish_segments(&mut wire);
            prop_assert_eq!(inflate(&mut inflater, &wire, expected.len()), Ok(expected.clone()));
            // A second inflater: what a receiver sees, with a final empty block so that it knows the end.
            wire.extend(b"\x00\x00\xff\xff\x03\x00");
            prop_assert_eq!(&miniz_oxide::inflate::decompress_to_vec(&wire).unwrap(), &expected);
            prop_assert_eq!(&inflate_in_window(&wire, window_bits), &expected);
        }
    }

    #[test]
    fn messages_come_back(data in prop::collection::vec(any::<u8>(), 0..5000), level in 1_u32..10, bits in 9_u8..16) {
        let mut wire = b"before".to_vec();
        Compressor::new(level, bits).message(&data, &mut wire);
        let mut inflater = Inflater::default();
        prop_assert_eq!(inflate(&mut inflater, &wire[6..], data.len()), Ok(data));
    }

    #[test]
    fn random_streams_are_errors_or_messages(data in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = inflate(&mut Inflater::default(), &data, 10_000);
        // Twice, so that the second has a window.
        let takeover = Parameters { client_no_context_takeover: false, ..Parameters::default() };
        receive(Some(takeover), [&frame(0xc2, &data).repeat(2)[..]]);
    }
}
