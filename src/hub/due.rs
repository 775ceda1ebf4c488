//! When the hub has something to do.

use crate::moment::Moment;

/// When [`Hub::flush`](crate::hub::Hub::flush) is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// At the tick. Nothing that is published before is sent earlier.
    At(Moment),
    /// To drop what nobody needs any more. What is published before need not wait for it.
    Rest(Moment),
    /// There is nothing to do.
    Never,
}
