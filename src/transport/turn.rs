//! What one connection may cost before the others have their turn.

/// Whether a connection waits for its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    #[default]
    None,
    /// It is not read before.
    Waits,
    /// It is not read before the key of its token may have come.
    WaitsForKeys,
    /// This is it.
    Given,
    /// It has waited for the key of its token, and does not wait for it again.
    KeysSettled,
}

impl Turn {
    pub const fn waits(self) -> bool {
        matches!(self, Self::Waits | Self::WaitsForKeys)
    }
}

/// In bytes that are read and bytes that are made of them: about half a millisecond. The message that passes the limit is worked on
/// whole.
pub(crate) const WORK_AT_A_TURN: usize = 512 * 1024;
