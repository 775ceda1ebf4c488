//! Channels as an operator sees them.

use crate::channel::ChannelName;

/// One channel at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Its name.
    pub name: &'a ChannelName,
    /// Clients that are subscribed.
    pub readers: u64,
    /// The offset of its newest publication.
    pub published: u64,
    /// How many were published since it was last shown.
    pub news: u32,
    /// Bytes that it keeps.
    pub bytes: usize,
}

/// How far a survey of all channels has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surveyed {
    pub(super) part: usize,
    pub(super) bucket: usize,
}
