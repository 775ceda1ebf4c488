//! What the application does about somebody, connected or not: the part of [`Server`] that is about subjects.

use std::sync::Arc;

use crate::close::CloseReason;
use crate::identity::Identity;
use crate::jwt::Verified;
use crate::server::Server;
use crate::ticket::IssueError;
use crate::transport::tickets;

impl Server {
    /// Ends the connections of a subject, its tickets, and its sessions that wait for their clients.
    pub fn end_subject(&self, subject: &str, reason: &CloseReason) {
        self.shared.end_subject(subject, reason);
    }

    /// Whether channels are declared with claims. Then those of every identity have to be understood.
    pub fn uses_claims(&self) -> bool {
        self.shared.rules.use_claims()
    }

    /// Gives a ticket to somebody whom the application knows, for a page of this origin if there is one. `claims` is a JSON object.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn ticket(
        &self,
        mut identity: Identity,
        claims: &str,
        origin: Option<&str>,
    ) -> Result<String, IssueError> {
        if let Some(validity) = &mut identity.validity {
            validity.begin(self.shared.clock.unix_millis());
        }
        let verified = Verified { identity: Arc::new(identity), claims: claims.into() };
        tickets::issue(&self.shared, verified, origin)
    }
}
