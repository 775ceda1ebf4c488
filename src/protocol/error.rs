//! What a WebSocket peer can do wrong, and the close code for it.

use crate::close::CloseCode;

/// The peer broke the protocol. Send a close frame with [`code`](Self::code) and the text of this error, then close the socket
/// (RFC 6455 §7.1.7).
///
/// The text is ASCII and at most 123 bytes, so that all of it fits into a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RFC 6455 §5.1: every frame of a client is masked.
    #[error("frame is not masked")]
    Unmasked,
    /// RFC 6455 §5.2: no extension that this server speaks uses RSV2 and RSV3. Carries the three bits.
    #[error("reserved bits set: {0:#05b}")]
    ReservedBits(u8),
    /// RFC 7692 §6: RSV1 says that the message is compressed, and compression was not negotiated.
    #[error("RSV1 set, but no compression was negotiated")]
    NotNegotiated,
    /// RFC 7692 §6.1: only the first frame of a message has RSV1.
    #[error("RSV1 set on a control frame or a continuation")]
    MisplacedCompression,
    /// RFC 6455 §5.2: opcodes 3–7 and 11–15.
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.5: control frames are never fragmented.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// RFC 6455 §5.5: control frames carry at most 125 bytes.
    #[error("control frame longer than 125 bytes")]
    LongControl,
    /// RFC 6455 §5.2: the shortest form of the length must be used.
    #[error("payload length not in its shortest form")]
    NonMinimalLength,
    /// RFC 6455 §5.2: the top bit of a 64-bit length is zero.
    #[error("payload length with the top bit set")]
    LengthOverflow,
    /// RFC 6455 §5.4: a continuation belongs to a message that has begun.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// RFC 6455 §5.4: messages do not interleave.
    #[error("new message begun inside an unfinished one")]
    InterruptedMessage,
    /// RFC 6455 §8.1: text is UTF-8.
    #[error("text is not valid UTF-8")]
    InvalidText,
    /// RFC 6455 §5.5.1: the reason of a close frame is UTF-8.
    #[error("close reason is not valid UTF-8")]
    InvalidReason,
    /// RFC 6455 §5.5.1: a close frame is empty or begins with two bytes of code.
    #[error("close frame with a payload of one byte")]
    TruncatedCloseCode,
    /// RFC 6455 §7.4: some codes are never sent.
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
    /// The message is longer than the limit, after inflation.
    #[error("message longer than {limit} bytes")]
    TooBig {
        /// In bytes of the whole message.
        limit: usize,
    },
    /// RFC 7692 §7.2.2: the payload and its tail are not a DEFLATE stream, or the stream ends inside a block.
    #[error("compressed message is not valid DEFLATE data")]
    InvalidDeflate,
}

impl ProtocolError {
    /// The close code for this violation.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::InvalidText | Self::InvalidReason => CloseCode::INVALID_DATA,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            Self::Unmasked
            | Self::ReservedBits(_)
            | Self::NotNegotiated
            | Self::MisplacedCompression
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::LongControl
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode(_)
            | Self::InvalidDeflate => CloseCode::PROTOCOL_ERROR,
        }
    }
}
