//! A message that did not arrive whole: judged, inflated and counted piece by piece.

use super::assembler::Assembler;
use super::deflate::{History, Inflater};
use super::error::ProtocolError;
use super::frame::{Header, Opcode};
use super::utf8::Validator;

/// What there is of one message, and whether it can still become right.
///
/// A compressed message is inflated as it arrives, so that it is refused where it becomes too long or stops being text,
/// and its compressed form is never held.
#[derive(Debug)]
pub struct Unfinished {
    opcode: Opcode,
    /// Bytes of payload that were taken, as they came over the wire.
    arrived: u64,
    /// Of text.
    validator: Validator,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Plain(Assembler),
    /// Takes the engine of the shard's inflater along, which makes itself another when it needs one, and brings it back
    /// with the message. Nearly always nobody needs one in between, and nothing is allocated but the message.
    Compressed(Box<Inflater>),
}

impl Unfinished {
    /// The message that `first`, which is a text or a binary frame, begins.
    pub fn new(first: Header) -> Self {
        let payload = if first.rsv1 {
            Payload::Compressed(Box::default())
        } else {
            Payload::Plain(Assembler::default())
        };
        Self { opcode: first.opcode, arrived: 0, validator: Validator::default(), payload }
    }

    pub fn is_compressed(&self) -> bool {
        matches!(self.payload, Payload::Compressed(_))
    }

    /// How many bytes of payload were taken, before inflation.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many bytes are held on the heap, an inflater included.
    pub fn held_bytes(&self) -> usize {
        match &self.payload {
            Payload::Plain(assembler) => assembler.held_bytes(),
            Payload::Compressed(inflater) => size_of::<Inflater>() + inflater.held_bytes(),
        }
    }

    /// Takes the next piece of payload. `limit` and `history` are of a compressed message; a plain one is measured by the
    /// headers of its frames.
    ///
    /// # Errors
    ///
    /// When no message that goes on like this is right. However a message is cut, the error is the same.
    pub fn push(
        &mut self,
        piece: &[u8],
        shared: &mut Inflater,
        limit: usize,
        history: Option<&History>,
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
                let before = inflater.made().len();
                let result = inflater.push(piece, limit, history);
                if text {
                    judge_text(&mut self.validator, inflater.made(), before, limit)?;
                }
                result?;
            }
        }
        Ok(())
    }

    /// Gives the whole message to `shared`, and says what it is.
    ///
    /// # Errors
    ///
    /// When the message may not end here.
    pub fn finish(
        mut self,
        shared: &mut Inflater,
        limit: usize,
        history: Option<&History>,
    ) -> Result<Opcode, ProtocolError> {
        match self.payload {
            Payload::Plain(assembler) => shared.adopt(assembler.into_bytes()),
            Payload::Compressed(mut inflater) => {
                let before = inflater.made().len();
                let result = inflater.finish(limit, history);
                if self.opcode == Opcode::Text {
                    judge_text(&mut self.validator, inflater.made(), before, limit)?;
                }
                result?;
                *shared = *inflater;
            }
        }
        self.validator.finish().map_err(|_| ProtocolError::InvalidText)?;
        Ok(self.opcode)
    }
}

/// Validates what inflation has `made` since there were `before` bytes.
///
/// To be asked before the result of the inflation is looked at: bad text stands before what could not be inflated, and
/// before the limit, behind which nothing counts.
pub fn judge_text(
    validator: &mut Validator,
    made: &[u8],
    before: usize,
    limit: usize,
) -> Result<(), ProtocolError> {
    let new = made.get(before..made.len().min(limit)).unwrap_or_default();
    validator.push(new).map_err(|_| ProtocolError::InvalidText)
}
