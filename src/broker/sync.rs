//! The atomics of what works without a lock. The loom test (`tests/rust/broker.rs`) puts loom's own in their place.

pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
