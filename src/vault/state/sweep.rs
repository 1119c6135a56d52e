//! Records end: unanswered ones when their time is over, answers when they have been kept long enough or memory
//! is short.

use crate::domain::ids::RequestId;
use crate::vault::record::Origin;
use crate::vault::refusal::Refusal;
use crate::wire::dcp::envelope::RecordId;

use super::afar::is_of_caller;
use super::{Context, VaultState};

impl VaultState {
    /// Gives up every unanswered request whose time is over; its agent is told.
    pub fn expire(&mut self, context: &mut Context<'_>) {
        if self.open > 0 {
            let now = context.now;
            for (request, id) in self.open_ones(|record| record.expires <= now) {
                self.note_lapses(&request, id, context);
                self.give_up(&request, id, &Refusal::Expired, context);
            }
        }
    }

    /// Forgets a kept answer. One that has been asked for again meanwhile under the same name is not touched.
    pub fn forget(&mut self, request: &RequestId, id: RecordId, context: &mut Context<'_>) {
        if self.kept_answer(request, id).is_some() {
            self.remove(request, id, context);
        }
    }

    /// This node stops now: whoever still waits is told. Another cluster finds out by its link, and asks another node.
    pub fn abandon(&mut self, context: &mut Context<'_>) {
        for (request, id) in self.open_ones(|record| !is_of_caller(record)) {
            self.give_up(&request, id, &Refusal::Unavailable, context);
        }
    }

    /// Whether an agent of this node waits for an answer, or to hear whether its request is accepted.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let waits = |origin: &Origin| matches!(origin, Origin::Here(waiter) if waiter.is_there());
        self.records.values().flatten().any(|record| record.is_open() && waits(&record.origin))
    }
}
