//! Why a server can't be made or started.

use std::io;

use crate::config::ConfigError;
use crate::transport::tls::TlsError;

/// Why a server can't be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting or a declaration of the application is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address can't be bound.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// As it is configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no thread or descriptor for a shard.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A server can be started once.
    #[error("this server was started before; make a new one")]
    Twice,
}
