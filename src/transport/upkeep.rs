//! What has to be done from time to time, by one shard for all.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, spawn_local, yield_now};
use tokio::time::sleep;

use crate::transport::events::Level;
use crate::transport::shared::Shared;
use crate::transport::tls::{Certificate, TlsError};

/// Starts it on the runtime of this thread, with which it ends.
pub(crate) fn start(shared: &Arc<Shared>) {
    let (broker, clock) = (Arc::clone(&shared.broker), shared.clock.clone());
    spawn_local(async move {
        loop {
            sleep(TIDY_INTERVAL).await;
            // Others have their turn between two steps.
            while broker.tidy(clock.now()) {
                yield_now().await;
            }
        }
    });
    let Some(certificate) = certificate(shared) else { return };
    let shared = Arc::clone(shared);
    spawn_local(async move {
        loop {
            sleep(CERTIFICATE_INTERVAL).await;
            let certificate = Arc::clone(&certificate);
            if let Ok(Some(reread)) = spawn_blocking(move || certificate.reread_if_changed()).await {
                report(&shared, &reread);
            }
        }
    });
}

/// Reads the certificate and its key again, for new connections, and logs what became of it. `false` without TLS. Blocks on
/// the file system.
pub(crate) fn reread_certificate(shared: &Shared) -> bool {
    certificate(shared).map(|certificate| report(shared, &certificate.reread())).is_some()
}

fn certificate(shared: &Shared) -> Option<Arc<Certificate>> {
    shared.tls.as_ref().map(|tls| Arc::clone(&tls.certificate))
}

fn report(shared: &Shared, reread: &Result<(), TlsError>) {
    match reread {
        Ok(()) => shared.log(Level::Info, "the certificate was read again, for new connections"),
        Err(error) => {
            shared.log(
                Level::Error,
                format!("the certificate before is served, because of the new one: {error}"),
            );
        }
    }
}

/// Publications outlive their age by at most this much when nothing is appended.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate that was renewed is served after at most twice this time.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(2);
