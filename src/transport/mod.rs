//! Moves bytes: listeners, shards, connections, TLS. The only layer that has sockets and asks a clock.
//!
//! Each module may use those above it:
//!
//! | module | what |
//! |---|---|
//! | `clock`, `client_id`, `addresses`, `budget`, `io`, `outbox`, `tls`, `wheel`, `deadlines` | parts that know nothing of a shard |
//! | `commands`, `credit`, `events` | what other threads ask a shard for, and what the application is told |
//! | `route`, `connection`, `sockets`, `shared`, `connections` | the state: of one websocket path's client, of one connection, of the server, of one shard |
//! | `peer`, `ending` | acting on one connection: what it is told, how it carries a session, how it ends |
//! | `http`, `admission`, `websocket`, `latecomers`, `drain`, `drive` | requests, being let in, frames, making room, stopping, and the task that reads and writes |
//! | `shard`, `listener` | the loop of a shard, and the way in |

pub mod client_id;
pub mod clock;
pub mod commands;
pub mod credit;
pub mod events;

pub(crate) mod addresses;
pub(crate) mod budget;
pub(crate) mod connections;
pub(crate) mod deadlines;
pub(crate) mod listener;
pub(crate) mod shard;
pub(crate) mod shared;
pub(crate) mod tls;

mod admission;
mod connection;
mod drain;
mod drive;
mod ending;
mod http;
mod io;
mod latecomers;
mod outbox;
mod peer;
mod route;
mod sockets;
mod websocket;
mod wheel;

pub use route::HIGH_WATER;
pub use shared::Page;

#[cfg(test)]
mod tests;
