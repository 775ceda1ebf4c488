//! What the fuzzers run. Each target is a plain function of bytes, so that an ordinary test can replay the corpus.
//!
//! Beyond "never panics", every target states a property: the outcome does not depend on how the input is cut, memory
//! stays within its bound, and what one reader accepts a second one reads alike.

#[path = "../../rust/hub_model.rs"]
pub mod hub_model;
#[path = "../../rust/session_model.rs"]
pub mod session_model;

use std::cell::RefCell;

use umbel::broker::memory::MemoryBroker;
use umbel::json;
use umbel::protocol::ProtocolError;
use umbel::protocol::deflate::{self, Compressor, DeflatePolicy, Inflater, Parameters};
use umbel::protocol::event_stream::{MAX_STREAM_CHANNELS, StreamPositions, StreamRequest, TICKET};
use umbel::protocol::frame::{Opcode, encode_header};
use umbel::protocol::handshake::{Policy, upgrade};
use umbel::protocol::http::{HeadLimits, HeadReader, HttpError, Request};
use umbel::protocol::message;
use umbel::protocol::origins::Origins;
use umbel::protocol::websocket::{Incoming, WebSocket};

/// Request heads: one read, and byte by byte.
pub fn head(data: &[u8]) {
    let limits = HeadLimits { head_bytes: 1024, headers: 8, target_bytes: 64 };
    let whole = HeadReader::default().read(data, &limits);
    let mut reader = HeadReader::default();
    let ends = 0..=data.len();
    let cut = ends.map(|end| reader.read(&data[..end], &limits)).find(|result| !matches!(result, Ok(None)));
    assert_eq!(outcome(&whole), outcome(&cut.unwrap_or(Ok(None))));
    if let Ok(Some((request, used))) = whole {
        assert!(used <= data.len() && data[..used].ends_with(b"\r\n\r\n"));
        assert!(request.path().starts_with('/') && !request.path().contains(char::is_control));
    }
}

fn outcome(result: &Result<Option<(Request, usize)>, HttpError>) -> String {
    format!("{result:?}")
}

/// Headers of a handshake: the response never holds more lines than were meant.
pub fn handshake(data: &[u8]) {
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_vec();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n\r\n");
    let Ok(Some((request, _))) = HeadReader::default().read(&bytes, &HeadLimits::default()) else { return };
    for origins in [Origins::Any, Origins::default(), Origins::List(vec!["https://a".to_owned()])] {
        let policy = Policy {
            subprotocols: vec!["umbel.v1".to_owned()],
            deflate: Some(DeflatePolicy { client_context_takeover: true, ..DeflatePolicy::default() }),
            origins,
        };
        match upgrade(&request, &policy) {
            Ok(upgrade) => {
                let text = String::from_utf8(upgrade.response).expect("a response is text");
                assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n").count() <= 7);
                if let Some(parameters) = upgrade.deflate {
                    assert!((9..=15).contains(&parameters.server_max_window_bits));
                    assert!((9..=15).contains(&parameters.client_max_window_bits));
                }
            }
            Err(error) => assert!((400..600).contains(&error.status)),
        }
    }
    let _ = deflate::negotiate(request.headers("x"), &DeflatePolicy::default());
}

/// The last id of a stream's client, and its query: whatever is read is written like that, and nothing else is.
pub fn stream(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(positions) = StreamPositions::parse(&text) {
        let mut written = Vec::new();
        positions.write(&mut written);
        assert_eq!(written, text.as_bytes());
    }
    let mut bytes = b"GET /s?".to_vec();
    bytes.extend(data.iter().filter(|byte| byte.is_ascii_graphic() && **byte != b'#'));
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\nLast-Event-ID: ");
    bytes.extend_from_slice(text.replace(char::is_control, "").as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
    let Ok(Some((mut request, _))) = HeadReader::default().read(&bytes, &HeadLimits::default()) else {
        return;
    };
    let stream = StreamRequest::parse(&request, "");
    if let Ok(stream) = &stream {
        assert!((1..=MAX_STREAM_CHANNELS).contains(&stream.channels.len()));
        assert_eq!(stream.positions.len(), stream.channels.len());
    }
    // Without its credentials, it is the same request.
    request.hide_parameter(TICKET);
    request.shorten_parameter("after", |id| StreamPositions::split_secret(id).1);
    request.shorten_header("last-event-id", |id| StreamPositions::split_secret(id).1);
    if let Ok(stream) = stream {
        let hidden = StreamRequest::parse(&request, "").expect("only less is in it");
        assert!(hidden.tickets.is_empty());
        assert_eq!(hidden.channels.len(), stream.channels.len());
    }
}

/// Frames: the first byte says how; the rest is read in one piece and in small ones.
pub fn frames(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let deflate = (how & 1 != 0)
        .then(|| Parameters { client_no_context_takeover: how & 2 == 0, ..Parameters::default() });
    let whole = events(bytes, bytes.len().max(1), 4096, deflate);
    let cut = events(bytes, usize::from(how >> 4) + 1, 4096, deflate);
    assert_eq!(whole, cut);
}

fn events(
    bytes: &[u8],
    size: usize,
    limit: usize,
    deflate: Option<Parameters>,
) -> Vec<Result<String, ProtocolError>> {
    let mut websocket = WebSocket::new(limit, deflate);
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    let mut bytes = bytes.to_vec();
    for mut input in bytes.chunks_mut(size) {
        loop {
            match websocket.receive(input, &mut inflater) {
                Ok((taken, None)) => {
                    assert_eq!(taken, input.len());
                    break;
                }
                Ok((taken, Some(event))) => {
                    seen.push(Ok(format!("{event:?}")));
                    input = &mut input[taken..];
                }
                Err(error) => {
                    seen.push(Err(error));
                    break;
                }
            }
        }
        // What has arrived and a quarter; a window; an inflater.
        assert!(websocket.held_bytes() <= limit / 4 * 5 + 32 * 1024 + 50 * 1024);
    }
    seen
}

/// Compressed payloads: within the limit, the same with and without an empty history, the same whole and in fragments,
/// and what was inflated survives a round trip.
pub fn deflate(data: &[u8]) {
    const LIMIT: usize = 100_000;
    let deflate = Some(Parameters::default());
    let takeover = Some(Parameters { client_no_context_takeover: false, ..Parameters::default() });
    let first = if data.len().is_multiple_of(2) { 0x41 } else { 0x42 };
    let whole = message_frames(first, data, data.len().max(1));
    let expected = events(&whole, whole.len(), LIMIT, deflate);
    assert_eq!(events(&whole, whole.len(), LIMIT, takeover), expected);
    if data.len() <= LIMIT {
        let cut = message_frames(first, data, data.len() / 7 + 1);
        assert_eq!(events(&whole, 13, LIMIT, deflate), expected);
        assert_eq!(events(&cut, cut.len(), LIMIT, deflate), expected);
        assert_eq!(events(&cut, 13, LIMIT, deflate), expected);
    }
    if let Some(message) = inflated(data, LIMIT) {
        assert!(message.len() <= LIMIT);
        let mut wire = Vec::new();
        COMPRESSOR.with_borrow_mut(|compressor| compressor.segment(&message, &mut wire));
        deflate::stored(&message, &mut wire);
        deflate::finish_segments(&mut wire);
        assert_eq!(inflated(&wire, LIMIT * 2), Some(message.repeat(2)));
    }
}

/// The binary message that a compressed payload becomes, if it becomes one.
fn inflated(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut websocket = WebSocket::new(limit, Some(Parameters::default()));
    let mut bytes = message_frames(0x42, payload, payload.len().max(1));
    match websocket.receive(&mut bytes, &mut Inflater::default()) {
        Ok((_, Some(Incoming::Binary(message)))) => Some(message.to_vec()),
        _ => None,
    }
}

/// A message in fragments of `size` bytes, masked with zeros.
fn message_frames(first: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = payload.len().div_ceil(size).max(1);
    for index in 0..count {
        let piece = &payload[index * size..payload.len().min((index + 1) * size)];
        let header = bytes.len();
        encode_header(Opcode::Continuation, false, index + 1 == count, piece.len(), &mut bytes);
        bytes[header] |= if index == 0 { first } else { 0 };
        bytes[header + 1] |= 0x80;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(piece);
    }
    bytes
}

thread_local! {
    /// Making one costs more than everything else that the target does.
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(1, 12));
}

/// Envelopes: accepted text is JSON for another reader too, and an echoed id stays one JSON value.
pub fn envelope(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let id = match message::parse(text) {
        Ok(message) => {
            assert!(is_json(text), "accepted, but not acceptable");
            message.id.map(|id| id.as_json().to_owned())
        }
        Err(error) => {
            assert!(error.to_string().len() < 300, "an error does not repeat the text");
            error.id().map(|id| id.as_json().to_owned())
        }
    };
    if let Some(id) = id {
        assert!(id.len() <= 130 && is_json(&id));
    }
    let mut escaped = Vec::new();
    json::push_string(text, &mut escaped);
    let escaped = std::str::from_utf8(&escaped).expect("escaping keeps UTF-8");
    assert!(is_json(escaped));
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// Operations on the hub, two bytes each: whatever they are, what readers are told adds up to what was published. An odd
/// number of bytes stands for a broker whose logs are elsewhere.
pub fn hub(data: &[u8]) {
    use hub_model::late_broker::{Elsewhere, LateBroker};
    use hub_model::{CHANNELS, From, READERS, Step, check};
    let is_late = !data.len().is_multiple_of(2);
    let steps: Vec<_> = data
        .chunks_exact(2)
        .take(400)
        .map(|pair| {
            let (reader, channel) =
                (u32::from(pair[1]) % READERS, usize::from(pair[1] >> 4) % CHANNELS.len());
            let from = match pair[0] >> 4 {
                0..=7 => From::Newcomer,
                8..=11 => From::Reached { is_promised: pair[0] & 16 == 0 },
                _ => From::Offset(u64::from(pair[1] & 15)),
            };
            let elsewhere = |step| Step::Elsewhere { channel, step };
            match pair[0] % 16 {
                3..=4 if is_late => elsewhere(Elsewhere::Arrive),
                13 if is_late => elsewhere(Elsewhere::Hear { left: usize::from(pair[1] & 15) }),
                14 if is_late && pair[0] > 127 => elsewhere(Elsewhere::Fail { certain: pair[1] & 1 == 0 }),
                14 if is_late => elsewhere(Elsewhere::LoseTail { count: usize::from(pair[1] & 3) }),
                0..=4 => Step::Publish { channel, key: pair[1] & 3, length: usize::from(pair[0]) * 2 },
                5 => Step::Subscribe { reader, channel, from },
                6 => Step::Restart { reader, channel, from },
                7 => Step::Resubscribe { reader, channel },
                8 => Step::Unsubscribe { reader, channel },
                9 => Step::Stick { reader, takes_one: pair[0] > 127 },
                10 => Step::Free { reader },
                11 => match pair[0] >> 6 {
                    0 => Step::Reconnect { reader },
                    1 => Step::Away { reader, has_read: pair[0] & 16 == 0 },
                    _ => Step::Resume { reader, has_read: pair[0] & 16 == 0 },
                },
                12..=14 => Step::Turn,
                _ => Step::Wait(u64::from(pair[1]) % 40 + 1),
            }
        })
        .collect();
    if is_late {
        check::<LateBroker>(&steps);
    } else {
        check::<MemoryBroker>(&steps);
    }
}

/// Steps of a conversation, two bytes each: whatever they are, a session does what its model does.
pub fn session(data: &[u8]) {
    use session_model::{CHANNELS, Confirms, HowAnswered, ID_CHOICES, Step, check};
    use umbel::error_code::ErrorCode;
    use umbel::session::Decision;
    let steps = data.chunks_exact(2).take(400).map(|pair| {
        let (id, first) = (usize::from(pair[1] & 7) % ID_CHOICES, usize::from(pair[1] >> 3) % CHANNELS.len());
        let channels = match pair[0] >> 4 {
            0..=7 => vec![first],
            8..=14 => vec![first, (first + id) % CHANNELS.len()],
            _ => vec![first; 30],
        };
        let deny = |code| Decision::Deny { code, message: String::new() };
        match pair[0] % 16 {
            0 => Step::Subscribe { channels, from: None, restart: pair[0] & 16 != 0, id },
            1 => Step::Subscribe { channels, from: Some(first as u64), restart: pair[0] & 16 != 0, id },
            2 => Step::Unsubscribe { channels, id },
            3..=5 => Step::Publish { channel: first, id },
            6 => Step::Decide { channel: first, decision: Decision::Allow },
            7 => match id {
                0 | 1 => Step::Decide { channel: first, decision: deny(ErrorCode::NotAllowed) },
                2 | 3 => Step::Decide { channel: first, decision: deny(ErrorCode::Timeout) },
                4 => Step::DecideNothing,
                _ => Step::Decide { channel: first, decision: Decision::Allow },
            },
            8 => Step::Broker([Confirms::AtOnce, Confirms::Later, Confirms::Never][first % 3]),
            9 | 10 => Step::Confirm { which: first, outcome: Ok(()) },
            11 => Step::Confirm {
                which: first,
                outcome: Err([ErrorCode::NotPublished, ErrorCode::MaybePublished][id % 2]),
            },
            12 => match pair[0] >> 4 {
                0..=3 => Step::SubscribeForApplication { channel: first },
                4..=7 => Step::UnsubscribeForApplication { channel: first },
                8..=13 => Step::OfTheApplication { id },
                _ => Step::Burst { count: usize::from(pair[1] & 127) },
            },
            13 => match id {
                0..=2 => Step::Repeat { back: first },
                3 => Step::Repeat { back: usize::from(pair[0] | 15) - 15 },
                4 => Step::Answer { which: first, answer: HowAnswered::Result },
                5 => Step::Answer { which: first, answer: HowAnswered::Error },
                6 => Step::Answer { which: first, answer: HowAnswered::Unreadable },
                _ => {
                    let channel = first % (CHANNELS.len() - 1);
                    Step::Answer { which: usize::from(pair[0] >> 4), answer: HowAnswered::Run { channel } }
                }
            },
            14 => match first {
                0 => Step::Heartbeat { id },
                1 => Step::OfTheApplication { id },
                2 => Step::Nonsense,
                3 => Step::CountError,
                _ => Step::Wait(u64::from(pair[1] & 15)),
            },
            _ => match pair[0] >> 4 {
                0..=3 => Step::Disconnect { after: u32::from(pair[1]) },
                4..=6 => Step::Away,
                how => {
                    let offset = (how % 2 == 0).then_some(u64::from(how) - 7);
                    let named = (0..CHANNELS.len()).filter(|channel| pair[1] >> channel & 1 == 1);
                    let wanted = named.map(|channel| (channel, offset)).collect();
                    Step::Resume { wanted, may_ask: pair[1] < 128 }
                }
            },
        }
    });
    check(&steps.collect::<Vec<_>>());
}
