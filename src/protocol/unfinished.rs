//! A message that arrives in pieces: each piece is checked, inflated and counted when it arrives.

use super::assembler::Assembler;
use super::deflate::Inflater;
use super::error::ProtocolError;
use super::frame::{Header, Opcode};
use super::utf8::Validator;

/// The beginning of one message.
///
/// A compressed message is inflated as it arrives. So it is refused at the byte that makes it too long or can't be text, and
/// its compressed form is never held.
#[derive(Debug)]
pub struct Unfinished {
    opcode: Opcode,
    /// Bytes of payload that were taken, before inflation.
    arrived: u64,
    /// Used for text only.
    validator: Validator,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Plain(Assembler),
    /// It takes the engine out of the shard's inflater, and brings it back with the end of the message. If another message needs
    /// one meanwhile, the shard's inflater makes itself a new one. That is rare, so usually nothing is allocated but the message.
    Compressed(Box<Inflater>),
}

impl Unfinished {
    /// The message that begins with this frame, which is a text or a binary frame.
    pub fn new(first: Header) -> Self {
        let payload = if first.rsv1 {
            Payload::Compressed(Box::default())
        } else {
            Payload::Plain(Assembler::default())
        };
        Self { opcode: first.opcode, arrived: 0, validator: Validator::default(), payload }
    }

    /// Whether the message is compressed.
    pub fn is_compressed(&self) -> bool {
        matches!(self.payload, Payload::Compressed(_))
    }

    /// Bytes of payload that were taken, before inflation.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Bytes that are held on the heap, those of an inflater included.
    pub fn held_bytes(&self) -> usize {
        match &self.payload {
            Payload::Plain(assembler) => assembler.held_bytes(),
            Payload::Compressed(inflater) => size_of::<Inflater>() + inflater.held_bytes(),
        }
    }

    /// Takes the next piece of payload. `limit` and `history` are for a compressed message; the length of a plain one is known
    /// from the headers of its frames.
    ///
    /// # Errors
    ///
    /// When no message can begin like this. The error does not depend on how the message is cut.
    pub fn push(
        &mut self,
        piece: &[u8],
        shared: &mut Inflater,
        limit: usize,
        history: &[u8],
    ) -> Result<(), ProtocolError> {
        self.arrived += piece.len() as u64;
        let text = self.opcode == Opcode::Text;
        match &mut self.payload {
            Payload::Plain(assembler) => {
                if text {
                    self.validator.push(piece).map_err(|_| ProtocolError::InvalidText)?;
                }
                assembler.push(piece);
            }
            Payload::Compressed(_) if piece.is_empty() => {}
            Payload::Compressed(inflater) => {
                inflater.take_engine(shared);
                let before = inflater.message().len();
                let result = inflater.push(piece, limit, history);
                if text {
                    check_text(&mut self.validator, inflater.message(), before, limit)?;
                }
                result?;
            }
        }
        Ok(())
    }

    /// Gives the whole message to `shared`. Returns the opcode of its first frame.
    ///
    /// # Errors
    ///
    /// When the message may not end here.
    pub fn finish(
        mut self,
        shared: &mut Inflater,
        limit: usize,
        history: &[u8],
    ) -> Result<Opcode, ProtocolError> {
        match self.payload {
            Payload::Plain(assembler) => shared.set_message(assembler.into_bytes()),
            Payload::Compressed(mut inflater) => {
                let before = inflater.message().len();
                let result = inflater.finish(limit, history);
                if self.opcode == Opcode::Text {
                    check_text(&mut self.validator, inflater.message(), before, limit)?;
                }
                result?;
                *shared = *inflater;
            }
        }
        self.validator.finish().map_err(|_| ProtocolError::InvalidText)?;
        Ok(self.opcode)
    }
}

/// Validates the text that inflation has added to a message, which had `before` bytes.
///
/// Call it before the result of the inflation is used: invalid text comes before the byte that could not be inflated. What
/// comes after the limit does not count.
pub fn check_text(
    validator: &mut Validator,
    message: &[u8],
    before: usize,
    limit: usize,
) -> Result<(), ProtocolError> {
    let new = message.get(before..message.len().min(limit)).unwrap_or_default();
    validator.push(new).map_err(|_| ProtocolError::InvalidText)
}
