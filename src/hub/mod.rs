//! Which reader wants which channel, what is due, and frames made once. One hub per shard; synchronous, without sockets
//! or a clock.
//!
//! # How a publication reaches its readers
//! A log that moved notifies the hub of its shard ([`Hub::moved`]). When the tick is due, every reader of the channels
//! that moved is put into one queue, and the queue is served slice by slice ([`Hub::flush`]). Serving a reader reads
//! each of its channels from its cursor to the top of the log.
//!
//! # The flush rolls
//! The tops of the logs are read again for every slice. So a reader that is served late in a pass also gets what was
//! published meanwhile, and its neighbours in the slice share the frame. Readers that were already served go to the end
//! of the queue when the next tick begins. No reader waits longer than one pass through the queue, whatever the load.
//! When a pass takes longer than a tick, the batches grow and the queue does not.
//!
//! # The files
//! | file | what |
//! |---|---|
//! | `subscriptions` | the hub, and which reader has which channels |
//! | `due` | when there is something to do |
//! | `flush` | the tick, the queue, and serving a reader |
//! | `serve` | how far a reader is served, and what is counted |
//! | `singles` | updates one by one |
//! | `streams` | how far event streams have told their clients |
//! | `keeping_up` | which readers keep up, and what logs keep for them |
//! | `outbound` | what the hub asks of the sockets |
//! | `behind` | which readers take nothing, for an operator who looks |
//! | `reader`, `keys` | a connection as the hub sees it |
//! | `feed` | a channel as one shard sees it, and the frames that were made for its readers |
//! | `encoder` | messages to frames, compressed |
//! | `read_plan` | how far a reader reads |
//! | `multi_channel_frame` | one frame with updates of several channels |

mod behind;
mod due;
mod encoder;
mod feed;
mod flush;
mod keeping_up;
mod keys;
mod multi_channel_frame;
mod outbound;
mod read_plan;
mod reader;
mod serve;
mod singles;
mod streams;
mod subscriptions;

pub use behind::{Behind, see_blocked, waits_since};
pub use due::Due;
pub use encoder::FrameEncoder;
pub use flush::{CaughtUp, SLICE_BYTES};
pub use keys::{FeedKey, ReaderKey};
pub use outbound::{Delivery, Outbound, Outgoing};
pub use subscriptions::Hub;
