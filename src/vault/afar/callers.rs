//! What callers have under way here. All of them together may use a part of the memory that requests may use, and one
//! party, however often it has called, a part of that: who floods this cluster finds itself refused, and nobody else.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::regions::Caller;
use crate::cluster::shares::{Limits, Party, Shares};
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::wire::dcp::envelope::RecordId;

/// What a request costs beside its text, roughly, in bytes.
const OVERHEAD_BYTES: usize = 512;

/// The parts of what all callers may use that one party may use alone, and all that have one key, or have none and call
/// from one address.
const PARTY_SHARE: usize = 4;
const GROUP_SHARE: usize = 2;

/// How long a caller that asked for a vault in vain is told when it comes: as long as requests wait, by default.
const INTEREST: Duration = Duration::from_secs(15);

/// Most vaults that were asked for in vain and are remembered; of each, most callers.
const MAX_VAULTS: usize = 10_000;
const MAX_ASKERS: usize = 8;

/// Requests of callers that have not ended, and vaults that they asked for in vain.
#[derive(Debug)]
pub struct Callers {
    shares: Shares,
    callers: HashMap<Caller, Held>,
    askers: HashMap<VaultId, SmallVec<[Caller; 1]>>,
    /// The same in the order of asking.
    asked: VecDeque<(Millis, VaultId)>,
}

#[derive(Debug)]
struct Held {
    party: Party,
    requests: HashMap<RecordId, (VaultId, usize)>,
}

impl Callers {
    /// All callers together may use `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let limits = Limits { party: limit / PARTY_SHARE, group: limit / GROUP_SHARE, all: limit };
        let shares = Shares::new(limits);
        Self { shares, callers: HashMap::new(), askers: HashMap::new(), asked: VecDeque::new() }
    }

    /// How many requests have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.callers.values().map(|held| held.requests.len()).sum()
    }

    /// Takes a request of a caller, which is one of `party`, or a repeat of it; false if there is no room for it.
    pub fn take(&mut self, (caller, party): (Caller, &Party), id: RecordId, vault: &VaultId, text: usize) -> bool {
        let new = || Held { party: party.clone(), requests: HashMap::new() };
        let (bytes, held) = (text + OVERHEAD_BYTES, self.callers.entry(caller).or_insert_with(new));
        if held.requests.contains_key(&id) {
            return true;
        }
        let is_taken = self.shares.take(&held.party, bytes);
        if is_taken {
            held.requests.insert(id, (vault.clone(), bytes));
        }
        is_taken
    }

    /// A request has ended: the caller is told so.
    pub fn ended(&mut self, caller: Caller, id: RecordId) {
        let Some(held) = self.callers.get_mut(&caller) else { return };
        if let Some((_, bytes)) = held.requests.remove(&id) {
            self.shares.give_back(&held.party, bytes);
        }
    }

    /// A call has ended: the vaults of its requests.
    pub fn hung_up(&mut self, caller: Caller) -> Vec<VaultId> {
        let Some(held) = self.callers.remove(&caller) else { return Vec::new() };
        self.shares.give_back(&held.party, held.requests.values().map(|(_, bytes)| bytes).sum());
        let mut vaults: Vec<_> = held.requests.into_values().map(|(vault, _)| vault).collect();
        vaults.sort_unstable();
        vaults.dedup();
        vaults
    }

    /// A caller has asked for a vault in vain.
    pub fn asked_in_vain(&mut self, caller: Caller, vault: &VaultId, now: Millis) {
        while let Some((at, oldest)) = self.asked.front()
            && (at.plus(INTEREST) <= now || self.asked.len() >= MAX_VAULTS)
        {
            self.askers.remove(oldest);
            self.asked.pop_front();
        }
        let askers = self.askers.entry(vault.clone()).or_insert_with(|| {
            self.asked.push_back((now, vault.clone()));
            SmallVec::new()
        });
        if !askers.contains(&caller) && askers.len() < MAX_ASKERS {
            askers.push(caller);
        }
    }

    /// The vault has come: who asked for it in vain.
    pub fn askers_of(&mut self, vault: &VaultId) -> SmallVec<[Caller; 1]> {
        self.askers.remove(vault).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::security::relay_certificate::KeyDigest;

    const NOW: Millis = Millis(1_767_323_046_000);

    fn id(n: u8) -> RecordId {
        RecordId([n; 16])
    }

    #[test]
    fn a_party_has_its_share_over_all_its_calls_and_all_together_have_theirs() {
        let (mut callers, vault) = (Callers::new(40 * OVERHEAD_BYTES), VaultId::from("v"));
        let whose = |n: u8| Party::Key(KeyDigest([n; 32]));
        let fill = |callers: &mut Callers, caller: u64, party: u8| {
            let party = whose(party);
            (0..50).filter(|n| callers.take((Caller(caller), &party), id(*n), &vault, 0)).count()
        };
        assert_eq!(fill(&mut callers, 1, 1), 10);
        assert_eq!(fill(&mut callers, 7, 1), 0, "another call gets it no more");
        assert!(callers.take((Caller(1), &whose(1)), id(0), &vault, 0), "a repeat costs nothing");
        callers.ended(Caller(1), id(0));
        callers.ended(Caller(1), id(0));
        assert!(callers.take((Caller(7), &whose(1)), id(40), &vault, 0));
        assert!(!callers.take((Caller(2), &whose(2)), id(0), &vault, 11 * OVERHEAD_BYTES));
        assert_eq!((2..=6).map(|n| fill(&mut callers, n.into(), n)).collect::<Vec<_>>(), [10, 10, 10, 0, 0]);
        assert_eq!((callers.open(), callers.hung_up(Caller(2))), (40, vec![vault.clone()]));
        assert_eq!(fill(&mut callers, 5, 5), 10);
        (1..=7).for_each(|caller| drop(callers.hung_up(Caller(caller))));
        assert_eq!((callers.open(), callers.shares.used()), (0, 0));
    }

    #[test]
    fn whoever_has_no_certificate_gets_half_under_whatever_names() {
        let (mut callers, vault) = (Callers::new(40 * OVERHEAD_BYTES), VaultId::from("v"));
        let named = |n: u8| Party::Relay(format!("relay-{n}").parse().unwrap(), IpAddr::from([10, 0, 0, 1]).into());
        let taken = (0..40).filter(|n| callers.take((Caller(u64::from(*n)), &named(*n)), id(*n), &vault, 0)).count();
        assert_eq!(taken, 20);
    }

    #[test]
    fn who_asked_in_vain_is_told_once_and_not_for_ever() {
        let (mut callers, vault) = (Callers::new(0), VaultId::from("v"));
        for caller in [1, 2, 1] {
            callers.asked_in_vain(Caller(caller), &vault, NOW);
        }
        assert_eq!(callers.askers_of(&vault).as_slice(), [Caller(1), Caller(2)]);
        assert!(callers.askers_of(&vault).is_empty());
        callers.asked_in_vain(Caller(1), &vault, NOW);
        callers.asked_in_vain(Caller(1), &VaultId::from("w"), NOW.plus(INTEREST));
        assert!(callers.askers_of(&vault).is_empty());
        for n in 0..2 * MAX_VAULTS {
            callers.asked_in_vain(Caller(1), &VaultId::from(n.to_string().as_str()), NOW.plus(INTEREST));
        }
        assert_eq!((callers.askers.len(), callers.asked.len()), (MAX_VAULTS, MAX_VAULTS));
    }
}
