//! What a WebSocket peer did wrong, and the close code that tells it.

use crate::close::CloseCode;

/// A violation by the peer. The connection must be failed: send a close frame with [`code`](Self::code) and the text
/// of this error as the reason, then close the socket (RFC 6455 §7.1.7).
///
/// The text of every variant is ASCII and at most 123 bytes, so that it fits a close frame whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RFC 6455 §5.1: every frame of a client is masked.
    #[error("frame is not masked")]
    Unmasked,
    /// RFC 6455 §5.2: RSV2 and RSV3 belong to no extension spoken here. Carries the three bits as they stood.
    #[error("reserved bits set: {0:#05b}")]
    ReservedBits(u8),
    /// RFC 7692 §6: RSV1 says "compressed", which was not negotiated.
    #[error("RSV1 set, but no compression was negotiated")]
    NotNegotiated,
    /// RFC 7692 §6.1: RSV1 stands on the first frame of a message only.
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
    /// RFC 6455 §5.4: a continuation continues something.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// RFC 6455 §5.4: messages do not interleave.
    #[error("new message begun inside an unfinished one")]
    InterruptedMessage,
    /// RFC 6455 §8.1.
    #[error("text is not valid UTF-8")]
    InvalidText,
    /// RFC 6455 §5.5.1: the reason of a close frame is UTF-8.
    #[error("close reason is not valid UTF-8")]
    InvalidReason,
    /// RFC 6455 §5.5.1: a close frame is empty or begins with two bytes of code.
    #[error("close frame with a payload of one byte")]
    TruncatedCloseCode,
    /// RFC 6455 §7.4: a code that no endpoint may send.
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
    /// The limit counts the whole message, after inflation.
    #[error("message longer than {limit} bytes")]
    TooBig {
        /// In bytes.
        limit: usize,
    },
    /// RFC 7692 §7.2.2: the payload and its tail are not a DEFLATE stream, or it ends inside a block.
    #[error("compressed message is not valid DEFLATE data")]
    InvalidDeflate,
}

impl ProtocolError {
    /// The close code that says whose fault it was.
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
