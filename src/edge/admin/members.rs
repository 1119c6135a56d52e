//! The live nodes, and how that changes.

use std::sync::Arc;

use futures::Stream;
use tokio::sync::watch;
use tonic::Status;

use super::changes::{Change, Entries, watch};
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
        let look = |views: &mut watch::Receiver<Arc<View>>| shown(&views.borrow_and_update());
        watch(self.parts.membership.watch(), look, event)
    }
}

fn event(change: Change, member: Member) -> MemberEvent {
    let change = match change {
        Change::Present => MemberChange::Present,
        Change::New => MemberChange::Joined,
        Change::Changed => MemberChange::Changed,
        Change::Gone => MemberChange::Left,
    };
    MemberEvent { change: change.into(), member: Some(member) }
}

fn shown(view: &View) -> Entries<Member> {
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
