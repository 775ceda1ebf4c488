//! The receiving side of one WebSocket connection: bytes go in, what the client sent comes out (RFC 6455, RFC 7692).

use super::close_wait::CloseWait;
use super::deflate::history::History;
use super::deflate::{Inflater, Parameters};
use super::error::ProtocolError;
use super::frame::{Header, HeaderReader, Opcode};
use super::mask::unmask;
use super::read_ahead::ReadAhead;
use super::unfinished::{Unfinished, check_text};
use super::utf8::Validator;
use crate::close::CloseCode;

/// What a client sent. It borrows from the input or from the inflater, never from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// Answer it with [`Wire::pong`](super::wire::Wire::pong) and the same payload. Of several pings, only the last one needs
    /// an answer (RFC 6455 §5.5.3).
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong(&'a [u8]),
    /// The client sends nothing more. Answer with [`Wire::close`](super::wire::Wire::close) and the same code, unless a close
    /// frame was sent before; then close the socket.
    Close {
        /// `None` when the frame had none.
        code: Option<CloseCode>,
        /// For people.
        reason: &'a str,
    },
}

impl Incoming<'_> {
    /// Bytes of its payload, after inflation.
    #[expect(clippy::len_without_is_empty, reason = "an empty message is a message")]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close { reason, .. } => reason.len(),
        }
    }
}

/// The receiving state of one connection. Sending has no state: see [`Wire`](super::wire::Wire).
///
/// An idle connection holds 64 bytes and no buffer. A message that arrives in pieces gets a box, and an inflater when it is
/// compressed; both are given back with the end of the message.
#[derive(Debug)]
pub struct WebSocket {
    /// The unfinished frame and message, if any.
    active: Option<Box<Active>>,
    /// The window of a client that takes its context over.
    history: Option<Box<History>>,
    /// In bytes of one message, after inflation.
    message_limit: usize,
    /// Frames begun since [`take_frames`](Self::take_frames).
    frames: u32,
    deflate: Option<Parameters>,
    closed: bool,
    header: HeaderReader,
}

#[derive(Debug, Default)]
struct Active {
    frame: Option<Frame>,
    message: Option<Unfinished>,
    /// The payload of an unfinished control frame, as far as it has arrived: at most 125 bytes.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    /// Bytes of payload that have been taken.
    arrived: u64,
}

impl WebSocket {
    /// `message_limit` is in bytes of one whole message, after inflation.
    pub fn new(message_limit: usize, deflate: Option<Parameters>) -> Self {
        Self {
            active: None,
            history: None,
            message_limit,
            frames: 0,
            deflate,
            closed: false,
            header: HeaderReader::default(),
        }
    }

    /// Sets another limit for messages that begin after this.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.message_limit = bytes;
    }

    /// Takes bytes from the front of `input`, and unmasks them in place. Returns how many it took, and at most one message or
    /// control frame.
    ///
    /// Call it again with the rest until it returns `None`: then all of `input` was taken. A message that is whole in `input`
    /// is lent out without a copy. After [`Incoming::Close`] or an error, further input is taken and ignored.
    ///
    /// # Errors
    ///
    /// At the first byte that can't be right, also in the middle of a header, a code point or a message. Close the connection
    /// with [`ProtocolError::code`] then.
    pub fn receive<'a>(
        &mut self,
        input: &'a mut [u8],
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Incoming<'a>>), ProtocolError> {
        inflater.release();
        let result = self.advance(input, inflater);
        if matches!(result, Err(_) | Ok((_, Some(Incoming::Close { .. })))) {
            self.closed = true;
            self.active = None;
            self.history = None;
        }
        result
    }

    /// Whether the client has begun a header, a frame or a message and not finished it. The caller keeps the deadline for it.
    pub fn is_mid_message(&self) -> bool {
        self.active.is_some() || !self.header.is_empty()
    }

    /// Bytes that are held on the heap.
    pub fn held_bytes(&self) -> usize {
        self.unfinished_bytes() + self.window_bytes()
    }

    /// Those that are held until a message is finished.
    pub fn unfinished_bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| {
            let message = active.message.as_ref().map_or(0, Unfinished::held_bytes);
            size_of::<Active>() + active.control.capacity() + message
        })
    }

    /// Those that are held from one message to the next, for a client that takes its context over: at most its window.
    pub fn window_bytes(&self) -> usize {
        self.history.as_ref().map_or(0, |history| size_of::<History>() + history.held_bytes())
    }

    /// The number of frames that have begun since the last call. It counts empty fragments too, of which nothing else is seen.
    pub fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Begins to keep input that can't be worked on yet. Give it to [`receive`](Self::receive) before anything that comes later.
    pub fn read_ahead(&mut self) -> ReadAhead {
        let frame = self.active.as_ref().and_then(|active| active.frame);
        let missing = frame.map_or(0, |frame| frame.header.length - frame.arrived);
        ReadAhead::new(missing, std::mem::take(&mut self.header))
    }

    /// What is needed after the server's close frame. All that is held for an unfinished message is given back.
    pub fn into_close_wait(self) -> CloseWait {
        let frame = self.active.and_then(|active| active.frame);
        let missing = frame.map_or(0, |frame| frame.header.length - frame.arrived);
        CloseWait { missing, header: self.header }
    }

    fn advance<'a>(
        &mut self,
        input: &'a mut [u8],
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Incoming<'a>>), ProtocolError> {
        let total = input.len();
        let mut rest = input;
        while !self.closed {
            let frame = match self.active.as_mut().and_then(|active| active.frame.take()) {
                Some(frame) => frame,
                None => {
                    let Some((header, used)) = self.header.read(rest)? else { break };
                    rest = &mut std::mem::take(&mut rest)[used..];
                    self.begin(header)?;
                    Frame { header, arrived: 0 }
                }
            };
            let missing = usize::try_from(frame.header.length - frame.arrived).unwrap_or(usize::MAX);
            let present = missing.min(rest.len());
            let (payload, after) = std::mem::take(&mut rest).split_at_mut(present);
            rest = after;
            unmask(payload, frame.header.mask, frame.arrived as usize);
            match self.take_payload(frame, payload, inflater)? {
                Step::Continue if rest.is_empty() => break,
                Step::Continue => {}
                Step::Here => {
                    let incoming = self.take_whole(frame.header, payload, inflater)?;
                    return Ok((total - rest.len(), Some(incoming)));
                }
                Step::Gathered { opcode, compressed } => {
                    if compressed {
                        self.remember(inflater.message());
                    }
                    return Ok((total - rest.len(), Some(plain(opcode, inflater.message())?)));
                }
            }
        }
        Ok((total, None))
    }

    /// Checks a new frame against the state of the message, before any of its payload.
    fn begin(&mut self, header: Header) -> Result<(), ProtocolError> {
        self.frames = self.frames.saturating_add(1);
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.active.as_ref().and_then(|active| active.message.as_ref());
        match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::InterruptedMessage),
            _ => {}
        }
        if header.rsv1 && self.deflate.is_none() {
            return Err(ProtocolError::NotNegotiated);
        }
        let compressed = message.map_or(header.rsv1, Unfinished::is_compressed);
        let arrived = message.map_or(0, Unfinished::arrived);
        if arrived.saturating_add(header.length) > self.wire_limit(compressed) {
            return Err(ProtocolError::TooBig { limit: self.message_limit });
        }
        Ok(())
    }

    /// The most payload that a message within the limit can have. Compression can make a message longer: with zlib's worst
    /// settings, by an eighth (`deflateBound`).
    fn wire_limit(&self, compressed: bool) -> u64 {
        let limit = self.message_limit as u64;
        if compressed { limit.saturating_add(limit / 8 + 64) } else { limit }
    }

    /// Says what this part of a payload completes. Keeps it when that is nothing yet. It is unmasked before.
    fn take_payload(
        &mut self,
        mut frame: Frame,
        payload: &[u8],
        inflater: &mut Inflater,
    ) -> Result<Step, ProtocolError> {
        let header = frame.header;
        let whole = payload.len() as u64 == header.length;
        if whole && (header.opcode.is_control() || (header.fin && header.opcode != Opcode::Continuation)) {
            self.drop_idle();
            return Ok(Step::Here);
        }
        frame.arrived += payload.len() as u64;
        let finished = frame.arrived == header.length;
        let active = self.active.get_or_insert_default();
        let mut step = Step::Continue;
        if header.opcode.is_control() {
            active.control.extend_from_slice(payload);
            if finished {
                inflater.set_message(std::mem::take(&mut active.control));
                step = Step::Gathered { opcode: header.opcode, compressed: false };
            }
        } else if finished || !payload.is_empty() {
            let (limit, history) = (self.message_limit, window(&self.history));
            let message = active.message.get_or_insert_with(|| Unfinished::new(header));
            message.push(payload, inflater, limit, history)?;
            if let Some(message) = active.message.take_if(|_| finished && header.fin) {
                let compressed = message.is_compressed();
                step = Step::Gathered { opcode: message.finish(inflater, limit, history)?, compressed };
            }
        }
        if !finished {
            active.frame = Some(frame);
        }
        self.drop_idle();
        Ok(step)
    }

    /// Gives back the box when nothing is unfinished any more.
    fn drop_idle(&mut self) {
        self.active.take_if(|active| active.frame.is_none() && active.message.is_none());
    }

    /// A message or control frame whose whole payload is in the input.
    fn take_whole<'a>(
        &mut self,
        header: Header,
        payload: &'a [u8],
        inflater: &'a mut Inflater,
    ) -> Result<Incoming<'a>, ProtocolError> {
        if header.rsv1 {
            let (limit, history) = (self.message_limit, window(&self.history));
            let result = inflater.inflate(payload, limit, history);
            if result.is_err() && header.opcode == Opcode::Text {
                check_text(&mut Validator::default(), inflater.message(), 0, limit)?;
            }
            result?;
            self.remember(inflater.message());
            return plain(header.opcode, inflater.message());
        }
        plain(header.opcode, payload)
    }

    /// Keeps the window of a client that takes its context over.
    fn remember(&mut self, message: &[u8]) {
        if let Some(parameters) = self.deflate.filter(|parameters| !parameters.client_no_context_takeover) {
            let bits = parameters.client_max_window_bits;
            self.history.get_or_insert_with(|| Box::new(History::new(bits))).push(message);
        }
    }
}

/// What a client's compressed message may refer to.
fn window(history: &Option<Box<History>>) -> &[u8] {
    history.as_ref().map_or(&[], |history| history.bytes())
}

/// What a piece of payload completes.
enum Step {
    /// Nothing yet.
    Continue,
    /// The piece is a whole message or control frame.
    Here,
    /// The piece was the last of several. The shard's inflater has the whole now; the opcode is that of the first frame.
    Gathered { opcode: Opcode, compressed: bool },
}

/// What a whole payload is, after inflation.
///
/// Text that came in pieces was validated piece by piece. It is validated here again, because only unsafe code can make text
/// of bytes without that; at over 10 GB/s it does not show.
fn plain(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Text => {
            Incoming::Text(simdutf8::basic::from_utf8(payload).map_err(|_| ProtocolError::InvalidText)?)
        }
        Opcode::Binary | Opcode::Continuation => Incoming::Binary(payload),
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        Opcode::Close => close(payload)?,
    })
}

fn close(payload: &[u8]) -> Result<Incoming<'_>, ProtocolError> {
    match payload {
        [] => Ok(Incoming::Close { code: None, reason: "" }),
        [_] => Err(ProtocolError::TruncatedCloseCode),
        [high, low, reason @ ..] => {
            let number = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::new(number).ok_or(ProtocolError::InvalidCloseCode(number))?;
            let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidReason)?;
            Ok(Incoming::Close { code: Some(code), reason })
        }
    }
}

/// What the documentation of [`WebSocket`] promises.
const _: () = assert!(size_of::<WebSocket>() <= 64);
