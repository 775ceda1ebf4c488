//! What resolves conflicts about a change of a state, and what the client wants.

use bytes::Bytes;

use crate::change::Expected;

/// What resolves conflicts about a change.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Index of the rule of the channel.
    pub rule: usize,
    /// The values of the parameters of its pattern.
    pub params: Box<[String]>,
    /// How often it was asked.
    pub rounds: u8,
    /// What the client wants. Noted when it is asked first.
    pub proposal: Option<Proposal>,
}

/// What a client wants to be in a state.
#[derive(Debug)]
pub(super) struct Proposal {
    /// `None`: nothing.
    pub data: Option<Bytes>,
    pub expected: Expected,
}

impl Resolver {
    /// Bytes that it keeps.
    pub fn size(&self) -> usize {
        self.proposal.as_ref().and_then(|proposal| proposal.data.as_ref()).map_or(0, Bytes::len)
    }
}
