//! Frames: right and wrong ones, and what Autobahn's cases 1 to 7 ask for.

use umbel::close::CloseCode;
use umbel::protocol::ProtocolError::{self, *};
use umbel::protocol::deflate::{Inflater, Parameters};
use umbel::protocol::websocket::{Incoming, WebSocket};

use crate::protocol_client::{LIMIT, Seen, feed, frame, header, receive, receive_both_ways};

#[track_caller]
fn fails(bytes: &[u8], error: ProtocolError) {
    assert_eq!(receive_both_ways(bytes), [Seen::Failed(error)]);
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

#[test]
fn unmasked_frames_are_refused() {
    for first in [0x81, 0x82, 0x88, 0x89, 0x8a] {
        fails(&[first, 0], Unmasked);
    }
    let mut later = frame(0x01, b"a");
    later.extend([0x80, 1, b'b']);
    assert_eq!(receive_both_ways(&later), [Seen::Failed(Unmasked)]);
}

#[test]
fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
    fails(&[0xa1], ReservedBits(0b010));
    fails(&[0x91], ReservedBits(0b001));
    fails(&[0xf1], ReservedBits(0b111));
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        fails(&[0x80 | opcode], ReservedOpcode(opcode));
    }
}

#[test]
fn the_compression_bit_needs_negotiation_and_the_first_frame_of_a_message() {
    fails(&frame(0xc1, b"x"), NotNegotiated);
    let deflate = Some(Parameters::default());
    for first in [0xc8, 0xc9, 0xca, 0xc0, 0x40] {
        assert_eq!(receive(deflate, [&[first][..]]), [Seen::Failed(MisplacedCompression)]);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [8, 9, 10] {
        fails(&[opcode], FragmentedControl);
        fails(&[0x80 | opcode, 0x80 | 126], LongControl);
        fails(&[0x80 | opcode, 0x80 | 127], LongControl);
    }
    assert_eq!(receive_both_ways(&frame(0x89, &[7; 125])), [Seen::Ping(vec![7; 125])]);
}

#[test]
fn messages_begin_and_continue_in_order() {
    fails(&frame(0x80, b"x"), UnexpectedContinuation);
    fails(&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), InterruptedMessage);
    fails(&[frame(0x02, b""), frame(0x02, b"")].concat(), InterruptedMessage);
}

#[test]
fn fragments_join_with_control_frames_between_them() {
    let bytes = [
        frame(0x01, b"a"),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x8a, b"q"),
        frame(0x80, b"b"),
        frame(0x82, b"c"),
    ];
    assert_eq!(
        receive_both_ways(&bytes.concat()),
        [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), text("ab"), Seen::Binary(b"c".to_vec())]
    );
}

#[test]
fn empty_messages_are_messages() {
    let bytes =
        [frame(0x81, b""), frame(0x82, b""), frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")].concat();
    assert_eq!(receive_both_ways(&bytes), [text(""), Seen::Binary(vec![]), text("")]);
}

#[test]
fn text_fails_at_the_first_impossible_byte_wherever_it_is_cut() {
    // Single byte, continuation alone, overlong, surrogate, beyond U+10FFFF: each wrong at its last byte here.
    for bad in [
        &b"\xff"[..],
        b"\xc0",
        b"\x80",
        b"\xe0\x80",
        b"\xe0\x9f",
        b"\xf0\x8f",
        b"\xed\xa0",
        b"\xf4\x90",
        b"\xf5",
        b"\xce\xce",
        b"\xe2\x82\x28",
        b"\xf0\x9f\x98\x28",
    ] {
        // The frame declares more than arrives: the failure does not wait for it.
        let mut bytes = header(0x81, 1000);
        let payload = [b"ok", bad].concat();
        bytes.extend(&frame(0x81, &payload)[6..]);
        fails(&bytes, InvalidText);
        assert_eq!(
            receive_both_ways(&bytes[..bytes.len() - 1]),
            [],
            "not before the byte that is wrong: {bad:x?}"
        );
        // Every cut into two fragments.
        for cut in 0..=payload.len() {
            let fragments = [frame(0x01, &payload[..cut]), frame(0x80, &payload[cut..])].concat();
            fails(&fragments, InvalidText);
        }
    }
}

#[test]
fn text_may_not_end_inside_a_code_point() {
    fails(&frame(0x81, b"\xe2\x82"), InvalidText);
    fails(&[frame(0x01, b"\xf0\x9f"), frame(0x80, b"\x98")].concat(), InvalidText);
    let whole = [frame(0x01, b"\xf0\x9f"), frame(0x89, b""), frame(0x80, b"\x98\x80")].concat();
    assert_eq!(receive_both_ways(&whole), [Seen::Ping(vec![]), text("😀")]);
}

#[test]
fn binary_is_not_text() {
    assert_eq!(receive_both_ways(&frame(0x82, b"\xff\xfe")), [Seen::Binary(vec![0xff, 0xfe])]);
}

#[test]
fn lengths_are_in_their_shortest_form() {
    fails(&[0x82, 0x80 | 126, 0, 5], NonMinimalLength);
    fails(&[0x82, 0x80 | 126, 0, 125], NonMinimalLength);
    fails(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 44], NonMinimalLength);
    fails(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], NonMinimalLength);
    fails(&[0x82, 0x80 | 127, 0x80], LengthOverflow);
}

#[test]
fn a_declared_length_over_the_limit_is_refused_at_the_header() {
    for length in [LIMIT as u64 + 1, 1 << 31, 1 << 32, 1 << 62, u64::MAX >> 1] {
        fails(&header(0x82, length), TooBig { limit: LIMIT });
        fails(&[frame(0x02, b"abc"), header(0x00, length)].concat(), TooBig { limit: LIMIT });
    }
    assert_eq!(TooBig { limit: 1 }.code(), CloseCode::TOO_BIG);
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut websocket = WebSocket::new(usize::MAX, None);
    let mut inflater = Inflater::default();
    feed(&mut websocket, &mut inflater, &header(0x82, 1 << 62), &mut Vec::new());
    assert!(websocket.held_bytes() < 512, "{}", websocket.held_bytes());
    assert!(websocket.is_mid_message());
}

#[test]
fn the_limit_itself_is_accepted() {
    let message = vec![b'x'; LIMIT];
    assert_eq!(receive(None, [&frame(0x82, &message)[..]]), [Seen::Binary(message.clone())]);
    let (first, second) = message.split_at(LIMIT / 3);
    let fragments = [frame(0x02, first), frame(0x80, second)].concat();
    assert_eq!(receive(None, fragments.chunks(1000)), [Seen::Binary(message)]);
}

#[test]
fn fragments_are_refused_at_the_one_that_passes_the_limit() {
    let mut bytes = frame(0x02, &vec![0; LIMIT - 1]);
    bytes.extend(frame(0x00, b"x"));
    assert_eq!(receive(None, [&bytes[..]]), []);
    bytes.extend(header(0x00, 1));
    assert_eq!(receive(None, [&bytes[..]]), [Seen::Failed(TooBig { limit: LIMIT })]);
}

#[test]
fn tiny_and_empty_fragments_cost_what_they_carry() {
    for (size, count) in [(64, 65_536), (1, 400_000), (0, 400_000)] {
        let mut websocket = WebSocket::new(8 << 20, None);
        let mut inflater = Inflater::default();
        let mut seen = Vec::new();
        feed(&mut websocket, &mut inflater, &frame(0x01, b""), &mut seen);
        let read = frame(0x00, &vec![b'a'; size]).repeat(count / 16);
        for _ in 0..16 {
            feed(&mut websocket, &mut inflater, &read, &mut seen);
            assert!(websocket.held_bytes() <= size * count * 5 / 4 + 65_536);
        }
        assert!(seen.is_empty() && websocket.is_mid_message());
        assert_eq!(websocket.take_frames() as usize, 1 + count);
        feed(&mut websocket, &mut inflater, &frame(0x80, b""), &mut seen);
        assert_eq!(seen, [Seen::Text("a".repeat(size * count))]);
        assert_eq!((websocket.held_bytes(), websocket.is_mid_message()), (0, false));
    }
}

#[test]
fn an_idle_connection_holds_nothing() {
    let mut websocket = WebSocket::new(LIMIT, None);
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    for bytes in
        [frame(0x81, &[b'a'; 300]), frame(0x89, b"ping"), [frame(0x01, b"a"), frame(0x80, b"b")].concat()]
    {
        for piece in bytes.chunks(3) {
            feed(&mut websocket, &mut inflater, piece, &mut seen);
        }
        assert_eq!((websocket.held_bytes(), websocket.is_mid_message()), (0, false));
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn whatever_is_unfinished_says_so() {
    for bytes in [&[0x81][..], &header(0x81, 1), &frame(0x89, b"ab")[..7], &frame(0x01, b"")] {
        let mut websocket = WebSocket::new(LIMIT, None);
        feed(&mut websocket, &mut Inflater::default(), bytes, &mut Vec::new());
        assert!(websocket.is_mid_message());
    }
}

#[test]
fn close_codes_follow_the_table() {
    let close = |code: u16| frame(0x88, &code.to_be_bytes());
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        assert_eq!(receive_both_ways(&close(code)), [Seen::Close(CloseCode::new(code), String::new())]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        fails(&close(code), InvalidCloseCode(code));
    }
}

#[test]
fn close_frames_may_be_empty_but_not_one_byte_and_reasons_are_text() {
    assert_eq!(receive_both_ways(&frame(0x88, b"")), [Seen::Close(None, String::new())]);
    fails(&frame(0x88, b"\x03"), TruncatedCloseCode);
    fails(&frame(0x88, b"\x03\xe8\xff"), InvalidReason);
    assert_eq!(InvalidReason.code(), CloseCode::INVALID_DATA);
    let reason = "é".repeat(61);
    let bytes = frame(0x88, &[b"\x03\xe8", reason.as_bytes()].concat());
    assert_eq!(receive_both_ways(&bytes), [Seen::Close(Some(CloseCode::NORMAL), reason)]);
}

#[test]
fn nothing_after_a_close_or_a_failure_is_looked_at() {
    let close = [frame(0x01, b"half"), frame(0x88, b"\x03\xe9"), frame(0x88, b""), vec![0xff; 50]].concat();
    assert_eq!(
        receive_both_ways(&close),
        [Seen::Close(Some(CloseCode::new(1001).expect("legal")), String::new())]
    );
    let mut websocket = WebSocket::new(LIMIT, None);
    let mut seen = Vec::new();
    let mut inflater = Inflater::default();
    feed(&mut websocket, &mut inflater, &frame(0x01, b"half"), &mut seen);
    feed(&mut websocket, &mut inflater, &[0xff], &mut seen);
    feed(&mut websocket, &mut inflater, &frame(0x81, b"more"), &mut seen);
    assert_eq!(seen, [Seen::Failed(ReservedBits(7))]);
    assert_eq!(websocket.held_bytes(), 0);
}

#[test]
fn after_our_close_frame_all_is_skipped_until_the_client_s_own_wherever_that_comes() {
    let before = [frame(0x01, b"half of a text"), frame(0x89, b"ping"), frame(0x80, &[b'x'; 300])].concat();
    let whole = [before.clone(), frame(0x82, b"another"), frame(0x88, &[0x03, 0xe8])].concat();
    let close = whole.len() - 8;
    for ours in 0..before.len() {
        for step in [1, 5, whole.len()] {
            let mut wait = websocket_at(&whole[..ours]).into_close_wait();
            let mut end = ours;
            let found = whole[ours..].chunks(step).any(|chunk| {
                end += chunk.len();
                wait.receive(chunk)
            });
            assert!(found && end > close, "closed at {ours}, in steps of {step}: {found} at {end}");
        }
    }
}

#[test]
fn after_our_close_frame_what_can_not_be_a_frame_ends_the_wait() {
    assert!(websocket_at(b"").into_close_wait().receive(&[0xff, 0xff]));
    assert!(websocket_at(b"").into_close_wait().receive(b"\x81\x05hello"), "not masked");
}

fn websocket_at(input: &[u8]) -> WebSocket {
    let mut websocket = WebSocket::new(LIMIT, None);
    feed(&mut websocket, &mut Inflater::default(), input, &mut Vec::new());
    websocket
}

#[test]
fn a_message_that_lies_whole_in_the_input_is_not_copied() {
    let mut read = frame(0x82, b"payload");
    let range = read.as_ptr_range();
    let (mut websocket, mut inflater) = (WebSocket::new(LIMIT, None), Inflater::default());
    match websocket.receive(&mut read, &mut inflater) {
        Ok((13, Some(Incoming::Binary(bytes)))) => assert!(range.contains(&bytes.as_ptr())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_error_fits_a_close_frame() {
    for error in [
        Unmasked,
        ReservedBits(7),
        NotNegotiated,
        MisplacedCompression,
        ReservedOpcode(15),
        FragmentedControl,
        LongControl,
        NonMinimalLength,
        LengthOverflow,
        UnexpectedContinuation,
        InterruptedMessage,
        InvalidText,
        InvalidReason,
        TruncatedCloseCode,
        InvalidCloseCode(u16::MAX),
        TooBig { limit: usize::MAX },
        InvalidDeflate,
    ] {
        assert!(error.to_string().len() <= 123 && error.to_string().is_ascii());
        assert!(CloseCode::new(error.code().get()).is_some());
    }
}
