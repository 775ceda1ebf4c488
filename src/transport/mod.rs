//! Moves bytes: listeners, shards, connections, TLS. The only layer that has sockets and asks a clock.

pub mod addresses;
pub mod budget;
pub mod clock;
pub mod events;
pub mod listener;
pub mod mailbox;
pub mod shard;
pub mod tls;

mod connection;
mod drive;
mod ending;
mod http;
mod io;
mod letters;
mod outbox;
mod session;
mod wheel;

pub use letters::HIGH_WATER;
