//! JSON Web Tokens (RFC 7519): whether one counts, and whom it names.
//!
//! Nothing here asks a clock or has a socket. Signatures are verified by ring, the library that TLS uses. Its keys and algorithms are fixed
//! by the configuration of the server: a token only says which of them it used. Each key is of one kind from its making, so a public
//! key is never taken for a secret. What RFC 8725 and the libraries before this one have met is in `tests/rust/jwt_attacks.rs`.
//!
//! | module | what |
//! |---|---|
//! | `algorithm` | their names, and the keys that they need |
//! | `der`, `key` | keys as they are configured, and how strong they are |
//! | `keys`, `wanted` | those that count now; whether others are asked for |
//! | `compact` | the three parts of a token |
//! | `claims` | what a token says |
//! | `cache` | tokens that were verified |
//! | `revoked` | subjects whose tokens do not count any more |
//! | `verifier` | all of it together |

mod algorithm;
mod cache;
mod claims;
mod compact;
mod der;
mod key;
mod keys;
mod revoked;
mod verifier;
mod wanted;

pub use claims::Verified;
pub use key::KeyError;
pub use revoked::TooManyRevoked;
pub use verifier::{LONGEST_TOKEN, Needs, Options, OptionsError, Source, Verifier};
pub use wanted::Wanted;
