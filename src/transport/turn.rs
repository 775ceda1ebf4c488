//! What one connection may cost before the others have their turn.

/// Whether a connection waits for its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    #[default]
    None,
    /// It is not read before.
    Waits,
    /// This is it.
    Given,
}

/// In bytes that are read and bytes that are made of them: about half a millisecond. The message that passes the limit is worked on
/// whole.
pub(crate) const WORK_AT_A_TURN: usize = 512 * 1024;
