//! What operators see and do: the sessions of vaults at this node, those of session mode included.

use super::service::{SHARDS, VaultService};
use super::state::Session;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::VaultId;
use crate::runtime::outbox::Outbox;
use crate::runtime::sessions::{self, SessionInfo, Wanted};

/// Session mode's vaults are a part of their own, behind the others.
const PLAIN: usize = SHARDS;

impl VaultService {
    /// How many parts there are for [`VaultService::sessions`].
    #[must_use]
    pub fn session_parts(&self) -> usize {
        SHARDS + 1
    }

    /// Sessions of vaults at this node.
    #[must_use]
    pub fn sessions(&self, wanted: Wanted) -> Vec<SessionInfo> {
        if wanted.part == PLAIN {
            return self.in_session_mode(|table, _| {
                let all = table.vaults.registered();
                let all = all.map(|(number, vault, epoch, outbox)| (number, (number, vault, epoch, outbox)));
                let found = wanted.of(all.collect()).into_iter();
                found.map(|(number, vault, epoch, outbox)| info(number, vault, epoch, Some(outbox), false)).collect()
            });
        }
        let mut all = Vec::new();
        self.for_each_in(wanted.part, |state, _| {
            let vault = state.vault().clone();
            let shown = |s: &Session| (s.number, (s.number, vault.clone(), s.epoch, s.outbox.clone()));
            all.extend(state.sessions().filter(|session| session.number > wanted.after).map(shown));
        });
        let found = wanted.of(all).into_iter();
        found.map(|(number, vault, epoch, outbox)| info(number, &vault, epoch, outbox.as_ref(), true)).collect()
    }

    /// Ends a session; false if there is none of that number.
    #[must_use]
    pub fn disconnect(&self, number: u64, cut: bool) -> bool {
        let mut found = self.in_session_mode(|table, _| {
            let socket = table.vaults.registered().find(|(other, ..)| *other == number);
            socket.map(|(.., outbox)| sessions::end(outbox, cut)).is_some()
        });
        for part in 0..SHARDS {
            if found {
                break;
            }
            self.for_each_in(part, |state, context| {
                let Some(session) = state.sessions().find(|session| session.number == number) else { return };
                found = true;
                match session.outbox.clone() {
                    Some(outbox) => sessions::end(&outbox, cut),
                    // Nothing holds one that polls: it begins anew when its vault asks again.
                    None => state.session_closed(number, false, context),
                }
            });
        }
        found
    }
}

fn info(number: u64, vault: &VaultId, epoch: Epoch, outbox: Option<&Outbox>, proven: bool) -> SessionInfo {
    SessionInfo {
        number,
        name: vault.to_string(),
        mailbox: String::new(),
        address: None,
        polling: outbox.is_none(),
        proven,
        sealed: false,
        since: Some(Millis(epoch.0 >> 16)),
        idle: None,
        queued: outbox.map_or(0, Outbox::queued_bytes),
        relayed: None,
    }
}
