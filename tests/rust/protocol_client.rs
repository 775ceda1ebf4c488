//! A client in a few lines, for the tests of the WebSocket state machine: frames out, events in as plain values.

use umbel::close::CloseCode;
use umbel::protocol::ProtocolError;
use umbel::protocol::deflate::{Inflater, Parameters};
use umbel::protocol::websocket::{Incoming, WebSocket};

pub const LIMIT: usize = 1 << 20;
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An [`Incoming`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
    Failed(ProtocolError),
}

impl From<Incoming<'_>> for Seen {
    fn from(event: Incoming<'_>) -> Self {
        match event {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Incoming::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A client's frame; `first` is its first byte: FIN, reserved bits and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The header of a masked frame that declares `length`.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// Feeds one read into the connection.
pub fn feed(websocket: &mut WebSocket, inflater: &mut Inflater, read: &[u8], seen: &mut Vec<Seen>) {
    let mut read = read.to_vec();
    let mut input = &mut read[..];
    loop {
        match websocket.receive(input, inflater) {
            Ok((taken, None)) => {
                assert_eq!(taken, input.len(), "without an event, all of the input is taken");
                return;
            }
            Ok((taken, Some(event))) => {
                seen.push(event.into());
                input = &mut input[taken..];
            }
            Err(error) => return seen.push(Seen::Failed(error)),
        }
    }
}

/// What a new connection makes of these reads.
pub fn receive<'a>(deflate: Option<Parameters>, reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut websocket = WebSocket::new(LIMIT, deflate);
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    for read in reads {
        feed(&mut websocket, &mut inflater, read, &mut seen);
    }
    seen
}

/// What a compressed message with this payload becomes, on a new connection that uses this inflater.
pub fn inflate(inflater: &mut Inflater, payload: &[u8], limit: usize) -> Result<Vec<u8>, ProtocolError> {
    let mut websocket = WebSocket::new(limit, Some(Parameters::default()));
    let mut seen = Vec::new();
    feed(&mut websocket, inflater, &frame(0xc2, payload), &mut seen);
    match seen.pop() {
        Some(Seen::Binary(message)) => Ok(message),
        Some(Seen::Failed(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// What a new connection without compression makes of these bytes, in one read and byte by byte.
pub fn receive_both_ways(bytes: &[u8]) -> Vec<Seen> {
    let whole = receive(None, [bytes]);
    assert_eq!(receive(None, bytes.chunks(1)), whole, "byte by byte");
    whole
}
