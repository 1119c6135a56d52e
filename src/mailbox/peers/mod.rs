//! The service's part in the cluster: blobs lie at the nodes at which they were put, and sessions are anywhere.
//!
//! A node that has a session of a mailbox says so to every other node (*interest*), again whenever a link is new. Each
//! remembers it, says at once whether it holds something for the mailbox, and says so again whenever something comes.
//! So whoever puts a blob knows without asking whom to wake, and neither can miss the other: either the put finds the
//! interest, or the interest finds the blob.
//!
//! Other clusters are told of interest too. Whichever node answers there passes it on inside its cluster as its own, and
//! hands back what it hears: which of its nodes hold something. What is asked of a node of another cluster goes through
//! the one that answers there.
//!
//! | file | holds |
//! |---|---|
//! | `interests` | who else has sessions of which mailboxes |
//! | `todo` | what is to be told, or looked up, outside of the order of the frames |
//! | `tell` | telling others what this node has sessions for, and what waits for theirs |
//! | `answer` | what other nodes tell and ask |
//! | `afar` | what nodes of other clusters tell and ask |
//! | `latecomers` | what came late not long ago, for those whose links were away |
//! | `calls` | what this node asks |
//! | `known` | which messages are done with, and where copies of the others wait |
//! | `away` | which nodes there are that cannot be told now |
//! | `insist` | asking every node until it says something |
//! | `purges` | purges, which must reach those who are away too |
//! | `convert` | between the words of the links and the domain's |

mod afar;
mod answer;
mod away;
mod calls;
pub(super) mod convert;
mod insist;
mod interests;
mod known;
mod latecomers;
mod purges;
mod tell;
mod todo;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use crate::cluster::regions::Caller;
use crate::domain::ids::NodeRun;

pub(super) use calls::{PATIENCE, ack};
use insist::Silent;
use interests::Interests;
pub(super) use known::Knowledge;
use latecomers::Latecomers;
use todo::{Lookups, Tellings};

/// Frames of other nodes whose handling touches the disk, at once; more are answered with a failure.
const BUSY: usize = 4096;

/// What the service knows of other nodes.
pub(super) struct Peers {
    /// What other nodes have sessions of.
    pub interests: Interests<NodeRun>,
    /// What nodes of other clusters have sessions of that have called this one.
    pub callers: Interests<Caller>,
    pub tellings: Tellings,
    pub lookups: Lookups,
    pub latecomers: Latecomers,
    silent: Silent,
    /// Purges that are kept for nodes that are away.
    pub purges: AtomicUsize,
    busy: Arc<Semaphore>,
}

impl Peers {
    pub fn new() -> Self {
        Self {
            interests: Interests::new(),
            callers: Interests::new(),
            tellings: Tellings::default(),
            lookups: Lookups::default(),
            latecomers: Latecomers::default(),
            silent: Silent::default(),
            purges: AtomicUsize::new(0),
            busy: Arc::new(Semaphore::new(BUSY)),
        }
    }
}
