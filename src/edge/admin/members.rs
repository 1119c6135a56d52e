//! The live nodes, and how that changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use super::proto::{Member, MemberChange, MemberEvent};
use super::service::Service;
use crate::cluster::view::{self, View};

impl Service {
    /// The live nodes by name.
    pub(super) fn members(&self) -> Vec<Member> {
        shown(&self.parts.membership.view()).into_values().collect()
    }

    /// The live nodes, then what changes.
    pub(super) fn member_events(&self) -> impl Stream<Item = Result<MemberEvent, Status>> + Send + 'static {
        let mut views = self.parts.membership.watch();
        let known = shown(&views.borrow_and_update());
        let present = known.values().map(|member| event(MemberChange::Present, member)).collect();
        stream::unfold(Watch { views, known, waiting: present }, |mut watch| async {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }
}

struct Watch {
    views: watch::Receiver<Arc<View>>,
    known: BTreeMap<String, Member>,
    /// Of one change of the view, so no more than there are nodes before and after it.
    waiting: VecDeque<MemberEvent>,
}

impl Watch {
    async fn next(&mut self) -> Option<MemberEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            self.views.changed().await.ok()?;
            let now = shown(&self.views.borrow_and_update());
            self.waiting = changes(&self.known, &now);
            self.known = now;
        }
    }
}

/// What became of the members between two views.
fn changes(before: &BTreeMap<String, Member>, now: &BTreeMap<String, Member>) -> VecDeque<MemberEvent> {
    let left = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let left = left.map(|(_, member)| event(MemberChange::Left, member));
    let others = now.iter().filter_map(|(name, member)| match before.get(name) {
        None => Some(event(MemberChange::Joined, member)),
        Some(known) if known != member => Some(event(MemberChange::Changed, member)),
        Some(_) => None,
    });
    left.chain(others).collect()
}

fn event(change: MemberChange, member: &Member) -> MemberEvent {
    MemberEvent { change: change.into(), member: Some(member.clone()) }
}

fn shown(view: &View) -> BTreeMap<String, Member> {
    let show = |member: &view::Member| Member {
        node_id: member.run.node.to_string(),
        generation: member.run.generation.0,
        region: member.facts.region.to_string(),
        version: member.facts.version.clone(),
        grpc: member.facts.grpc.clone(),
        gossip: member.gossip.to_string(),
        draining: member.facts.draining,
        is_self: member.run.node == view.me.node,
    };
    view.members.values().map(|member| (member.run.node.to_string(), show(member))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_told_first_and_who_stays_as_it_was_not_at_all() {
        let members = |names: &[(&str, bool)]| -> BTreeMap<String, Member> {
            let member = |(name, draining): &(&str, bool)| {
                ((*name).to_owned(), Member { node_id: (*name).to_owned(), draining: *draining, ..Member::default() })
            };
            names.iter().map(member).collect()
        };
        let told = changes(
            &members(&[("a", false), ("b", false), ("c", false)]),
            &members(&[("a", false), ("b", true), ("d", false)]),
        );
        let told: Vec<_> = told.iter().map(|e| (e.change(), e.member.as_ref().unwrap().node_id.as_str())).collect();
        let expected = [(MemberChange::Left, "c"), (MemberChange::Changed, "b"), (MemberChange::Joined, "d")];
        assert_eq!(told, expected);
    }
}
