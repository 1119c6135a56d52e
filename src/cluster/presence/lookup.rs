//! Finding a principal: its owners first, everybody before giving up.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::cluster::convert;
use crate::cluster::proto::{self, frame::Body, reply};
use crate::cluster::view::View;
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::domain::principal::{Principal, Standing};
use crate::observe::metrics::count;

use super::{Found, Presence};

/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a lookup goes on while nodes of the view do not answer: until a dead one has left the view.
const PERSISTENCE: Duration = Duration::from_secs(4);

/// Where a principal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// Held by this node.
    At {
        /// That node.
        run: NodeRun,
        /// Since when.
        epoch: Epoch,
        /// How firmly.
        standing: Standing,
    },
    /// Its node has died, or all nodes that could tell; requests may wait for it this long.
    Lost(Duration),
    /// Every live node has said that it does not hold it.
    Absent,
    /// A node of the view did not answer, so nothing can be said.
    Unreachable,
}

/// What asking a set of nodes gave.
#[derive(Default)]
struct Answers {
    best: Option<(Standing, Epoch, NodeRun)>,
    lost: Option<Duration>,
    silent: bool,
}

impl Answers {
    /// Who names a node that has left `view` has yet to hear of that: the principal is not there, but lost.
    fn seen_with(mut self, view: &View, grace: Duration) -> Self {
        if self.best.as_ref().is_some_and(|(.., run)| !view.is_live(run)) {
            (self.best, self.lost) = (None, Some(grace));
        }
        self
    }
}

impl Presence {
    /// Looks `principal` up on the other nodes and in this node's own directory.
    pub async fn locate(&self, principal: &Principal) -> Located {
        let (located, how) = self.search(principal, true).await;
        count(&self.inner.metrics.cluster.lookups, how);
        located
    }

    /// As [`Presence::locate`], but asks every node itself, and believes an owner only that a principal was lost:
    /// for use after an owner's answer has turned out wrong.
    pub async fn locate_anew(&self, principal: &Principal) -> Located {
        let (located, how) = self.search(principal, false).await;
        count(&self.inner.metrics.cluster.lookups, how);
        located
    }

    async fn search(&self, principal: &Principal, trust_owners: bool) -> (Located, &'static str) {
        let begun = Instant::now();
        loop {
            let view = self.view();
            let told = self.ask_owners(principal, &view).await.seen_with(&self.view(), self.inner.grace);
            if let (Some((standing, epoch, run)), true) = (told.best, trust_owners) {
                return (Located::At { run, epoch, standing }, "owner");
            }
            let others = view.others().map(|m| m.run.clone()).collect();
            let holds = Body::Holds(proto::Holds { principal: Some(convert::principal(principal)) });
            let answers = self.ask(others, holds, false).await;
            if let Some((standing, epoch, run)) = answers.best {
                return (Located::At { run, epoch, standing }, "asked_all");
            }
            match told.lost.or_else(|| self.lost_with_its_owners(principal)) {
                Some(wait) => return (Located::Lost(wait), "lost"),
                // An owner that has not answered may know that the principal's node has just gone.
                None if !told.silent && !answers.silent => return (Located::Absent, "absent"),
                None if begun.elapsed() > PERSISTENCE => return (Located::Unreachable, "unreachable"),
                // Whoever is silent will answer soon, or leave the view.
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// What the owners of `principal` say, this node among them if it is one.
    async fn ask_owners(&self, principal: &Principal, view: &View) -> Answers {
        let (mine, others): (Vec<_>, Vec<_>) =
            view.owners(principal.hash()).map(|m| m.run.clone()).partition(|run| *run == self.inner.me);
        let mut lost = None;
        if !mine.is_empty() {
            match self.find(principal, view) {
                Some(Found::At { run, epoch, standing }) if run != self.inner.me => {
                    return Answers { best: Some((standing, epoch, run)), ..Answers::default() };
                }
                Some(Found::Lost(wait)) => lost = Some(wait),
                Some(Found::At { .. }) | None => {}
            }
        }
        let locate = Body::Locate(proto::Locate { principal: Some(convert::principal(principal)) });
        let answers = self.ask(others, locate, true).await;
        Answers { lost: lost.max(answers.lost), ..answers }
    }

    /// Asks `nodes`; with `first`, the first that knows decides, otherwise the best of all.
    async fn ask(&self, nodes: Vec<NodeRun>, body: Body, first: bool) -> Answers {
        let mut asked: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| {
                let body = body.clone();
                async move { self.inner.links.ask(node, body, PATIENCE).await }
            })
            .collect();
        let mut answers = Answers::default();
        while let Some(answer) = asked.next().await {
            let Ok(reply::Body::Located(located)) = answer else {
                answers.silent = true;
                continue;
            };
            answers.lost =
                answers.lost.max((located.lost_wait_ms > 0).then(|| Duration::from_millis(located.lost_wait_ms)));
            let Some((run, epoch, standing)) = convert::holder(&located) else { continue };
            // A node that says that this one holds the principal is behind: this one would know.
            if run != self.inner.me {
                answers.best = answers.best.max(Some((standing, epoch, run)));
            }
            if first && answers.best.is_some() {
                break;
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::facts::Facts;
    use crate::cluster::view::Member;
    use crate::domain::ids::Generation;

    const GRACE: Duration = Duration::from_secs(15);

    fn member(node: &str) -> Member {
        let run = NodeRun { node: node.parse().unwrap(), generation: Generation(1) };
        Member::new(run, ([127, 0, 0, 1], 1).into(), Facts::new("127.0.0.1:1".into(), "here".parse().unwrap()))
    }

    #[test]
    fn a_principal_is_lost_if_its_owner_has_yet_to_hear_that_its_node_has_left() {
        let owner_says = || Answers { best: Some((Standing::Live, Epoch(1), member("b").run)), ..Answers::default() };
        let (view, _) = View::assemble(member("me"), [member("b")]);
        let told = owner_says().seen_with(&view, GRACE);
        assert!(told.best.is_some() && told.lost.is_none());
        let (view, _) = View::assemble(member("me"), []);
        let told = owner_says().seen_with(&view, GRACE);
        assert_eq!((told.best, told.lost), (None, Some(GRACE)));
    }
}
