//! What a client has under way beside its connection.

use std::sync::Arc;

use crate::transport::budget::{Budget, Hold, Share};
use crate::transport::client_id::ClientId;
use crate::transport::commands::CommandQueue;
use crate::transport::credit::{Allowance, Credit, Most, OF_A_ROUTE};
use crate::transport::shared::Shared;
use crate::transport::subjects::Seat;

/// What the messages of a client take that the application, or another request, has to finish, and the answers that are remembered.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Its place among those of its subject.
    pub seat: Seat,
    allowance: Arc<Allowance>,
    /// What requests keep that wait for others.
    requests: Option<Hold>,
    /// What the session remembers of its answers.
    remembered: Option<Share>,
    /// That this holds.
    remembered_bytes: usize,
}

impl Pending {
    /// For a client of the Umbel protocol.
    pub fn of_session(id: ClientId, shared: &Shared, commands: &Arc<CommandQueue>) -> Box<Self> {
        let most = Most { bytes: shared.budget.allowance(), messages: shared.config.under_way() };
        Self::new(Allowance::new(id, most, &shared.budget.messages, commands))
    }

    pub fn of_route(id: ClientId, shared: &Shared, commands: &Arc<CommandQueue>) -> Box<Self> {
        let most = Most { bytes: shared.budget.allowance().min(OF_A_ROUTE.bytes), ..OF_A_ROUTE };
        Self::new(Allowance::new(id, most, &shared.budget.of_routes, commands))
    }

    fn new(allowance: Allowance) -> Box<Self> {
        Box::new(Self {
            seat: Seat::default(),
            allowance: Arc::new(allowance),
            requests: None,
            remembered: None,
            remembered_bytes: 0,
        })
    }

    /// Takes a message that the application gets off what the client may say.
    pub fn credit(&self, bytes: usize) -> Credit {
        self.allowance.credit(bytes)
    }

    /// Notes what requests of the client keep that wait for others.
    pub fn hold_requests(&mut self, bytes: usize, budget: &Budget) {
        if self.requests.as_ref().map_or(0, Hold::bytes) != bytes {
            self.requests = (bytes > 0).then(|| Hold::new(&budget.messages, bytes));
        }
    }

    /// Notes what the session remembers of its answers. Returns `true` when it is more than before.
    pub fn hold_answers(&mut self, bytes: usize, client: ClientId, budget: &Budget) -> bool {
        let bytes = bytes.next_multiple_of(ANSWERS_STEP);
        let before = std::mem::replace(&mut self.remembered_bytes, bytes);
        if bytes == 0 {
            self.remembered = None;
        } else if bytes != before {
            self.remembered.get_or_insert_with(|| budget.remembered.share(client)).hold(bytes);
        }
        bytes > before
    }

    /// Whether the share of this number holds what the session remembers.
    pub fn remembers_by(&self, share: u64) -> bool {
        self.remembered.as_ref().is_some_and(|remembered| remembered.number() == share)
    }

    pub fn has_room(&self) -> bool {
        self.allowance.has_room(self.requests.as_ref().map_or(0, Hold::bytes))
    }
}

/// Bytes by which the answers that a session remembers are counted. So nearly no request changes what is counted.
const ANSWERS_STEP: usize = 4096;
