//! Properties of the codec: how bytes are cut never matters, and encoding is undone by decoding.

use proptest::prelude::*;
use umbel::protocol::deflate::{Compressor, Parameters};
use umbel::protocol::frame::{self as frames, Opcode};
use umbel::protocol::mask::unmask;
use umbel::protocol::utf8::Validator;

use crate::protocol_client::{MASK, Seen, frame, receive};

/// What a client may do next; each is legal wherever it stands.
#[derive(Clone, Debug)]
enum Act {
    Text { text: String, cuts: Vec<usize>, compressed: bool },
    Binary { bytes: Vec<u8>, cuts: Vec<usize>, compressed: bool },
    Ping(Vec<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    let cuts = || prop::collection::vec(0_usize..200, 0..4);
    prop_oneof![
        ("[ -~é€😀]{0,60}", cuts(), any::<bool>()).prop_map(|(text, cuts, compressed)| Act::Text {
            text,
            cuts,
            compressed
        }),
        (prop::collection::vec(any::<u8>(), 0..200), cuts(), any::<bool>())
            .prop_map(|(bytes, cuts, compressed)| Act::Binary { bytes, cuts, compressed }),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(Act::Ping),
    ]
}

/// One message as frames, cut at these places, with a ping before every continuation.
fn message(
    opcode: u8,
    payload: &[u8],
    cuts: &[usize],
    compressed: bool,
    bytes: &mut Vec<u8>,
    seen: &mut Vec<Seen>,
) {
    let mut wire = Vec::new();
    if compressed {
        Compressor::new(1, 12).message(payload, &mut wire);
    } else {
        wire = payload.to_vec();
    }
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(wire.len())).collect();
    cuts.sort_unstable();
    cuts.push(wire.len());
    let mut start = 0;
    for (index, &end) in cuts.iter().enumerate() {
        let fin = if index + 1 == cuts.len() { 0x80 } else { 0 };
        let first = if index == 0 { opcode | if compressed { 0x40 } else { 0 } } else { 0 };
        if index > 0 {
            bytes.extend(frame(0x89, b"between"));
            seen.push(Seen::Ping(b"between".to_vec()));
        }
        bytes.extend(frame(fin | first, &wire[start..end]));
        start = end;
    }
    seen.push(if opcode == 1 {
        Seen::Text(String::from_utf8(payload.to_vec()).unwrap())
    } else {
        Seen::Binary(payload.to_vec())
    });
}

fn play(acts: &[Act]) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut seen) = (Vec::new(), Vec::new());
    for act in acts {
        match act {
            Act::Text { text, cuts, compressed } => {
                message(1, text.as_bytes(), cuts, *compressed, &mut bytes, &mut seen);
            }
            Act::Binary { bytes: payload, cuts, compressed } => {
                message(2, payload, cuts, *compressed, &mut bytes, &mut seen);
            }
            Act::Ping(payload) => {
                bytes.extend(frame(0x89, payload));
                seen.push(Seen::Ping(payload.clone()));
            }
        }
    }
    (bytes, seen)
}

fn pieces<'a>(bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = (*sizes.next()?).clamp(1, rest.len().max(1)).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_chunking_gives_the_events_that_were_sent(
        acts in prop::collection::vec(act(), 0..8),
        sizes in prop::collection::vec(1_usize..300, 1..6),
    ) {
        let (bytes, expected) = play(&acts);
        let takeover = Parameters { client_no_context_takeover: false, ..Parameters::default() };
        for deflate in [Parameters::default(), takeover] {
            prop_assert_eq!(&receive(Some(deflate), [&bytes[..]]), &expected);
            prop_assert_eq!(&receive(Some(deflate), pieces(&bytes, &sizes)), &expected);
        }
    }

    #[test]
    fn any_chunking_of_garbage_gives_the_same_outcome(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        first in prop::sample::select(vec![0x01_u8, 0x02, 0x81, 0x82, 0x88, 0x89, 0xc1]),
        sizes in prop::collection::vec(1_usize..20, 1..6),
    ) {
        bytes.insert(0, first);
        if let Some(second) = bytes.get_mut(1) {
            *second |= 0x80;
        }
        let deflate = Some(Parameters::default());
        prop_assert_eq!(receive(deflate, pieces(&bytes, &sizes)), receive(deflate, [&bytes[..]]));
    }

    #[test]
    fn a_header_decodes_to_what_was_encoded(
        length in prop_oneof![0_usize..200, 65_000_usize..66_000, any::<usize>().prop_map(|length| length >> 1)],
        opcode in prop::sample::select(vec![Opcode::Continuation, Opcode::Text, Opcode::Binary]),
        fin in any::<bool>(),
        compressed in any::<bool>(),
    ) {
        let rsv1 = compressed && opcode != Opcode::Continuation;
        let mut bytes = Vec::new();
        frames::encode_header(opcode, rsv1, fin, length, &mut bytes);
        // A client's header differs by its mask only.
        bytes[1] |= 0x80;
        bytes.extend(MASK);
        let (header, used) = frames::decode_header(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        let expected = frames::Header { opcode, fin, rsv1, length: length as u64, mask: MASK };
        prop_assert_eq!(header, expected);
    }

    #[test]
    fn unmasking_in_pieces_agrees_with_the_definition(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        mask in any::<[u8; 4]>(),
        cut in 0_usize..300,
    ) {
        let expected: Vec<u8> =
            payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect();
        let cut = cut.min(payload.len());
        let mut actual = payload;
        let (first, second) = actual.split_at_mut(cut);
        unmask(first, mask, 0);
        unmask(second, mask, cut);
        prop_assert_eq!(actual, expected);
    }

    #[test]
    fn incremental_validation_agrees_with_the_standard_library_over_every_cut(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            prop::collection::vec(prop::sample::select(b"a\xc2\xe0\xa0\x9f\x80\xed\xf0\x90\xf4\x8f\xbf".to_vec()), 0..12),
            "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let expected = std::str::from_utf8(&bytes).is_ok();
        for cut in 0..=bytes.len() {
            let mut validator = Validator::default();
            let valid = validator.push(&bytes[..cut]).is_ok()
                && validator.push(&bytes[cut..]).is_ok()
                && validator.finish().is_ok();
            prop_assert_eq!(valid, expected);
        }
        // The first impossible byte is the one after the longest prefix of some valid text.
        let mut validator = Validator::default();
        let failed = bytes.iter().position(|byte| validator.push(&[*byte]).is_err());
        let impossible = (0..bytes.len()).find(|&end| {
            std::str::from_utf8(&bytes[..=end]).is_err_and(|error| error.error_len().is_some())
        });
        prop_assert_eq!(failed, impossible);
    }
}

#[test]
fn every_prefix_of_four_bytes_is_judged_at_its_first_impossible_byte() {
    // All lead bytes; second bytes around every border; third and fourth bytes of each kind.
    let borders = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];
    for lead in 0..=255_u8 {
        for second in borders {
            for third in borders {
                for fourth in borders {
                    let bytes = [lead, second, third, fourth];
                    let mut validator = Validator::default();
                    let failed = bytes.iter().position(|byte| validator.push(&[*byte]).is_err());
                    let error = std::str::from_utf8(&bytes).err();
                    let wrong = error.is_some_and(|error| error.error_len().is_some());
                    assert_eq!(failed.is_some(), wrong, "{bytes:x?}");
                }
            }
        }
    }
}
