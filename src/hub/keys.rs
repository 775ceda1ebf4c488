//! The numbers by which feeds and readers name each other.

/// Number of a feed within its hub.
pub type FeedKey = u32;

/// Number of a reader within its hub. The owner of the connections assigns it.
pub type ReaderKey = u32;
