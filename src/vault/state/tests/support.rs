//! One node's state of one vault, and the clients around it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::frame::Body;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::{Generation, NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::observe::metrics::Metrics;
use crate::runtime::outbox::{Next, Outbox, Outgoing};
use crate::vault::frames;
use crate::vault::limit::VaultLimit;
use crate::vault::record::{AgentSocket, PollToken, Submitter, Waiter};
use crate::vault::state::{Bounds, Context, Effect, NewRequest, Session, Usage, VaultState};
use crate::wire::dcp::envelope::RecordId;

/// When the tests begin: 2026-01-02T03:04:06Z.
pub const START: Millis = Millis(1_767_323_046_000);

/// How long requests wait for a vault that has gone.
pub const GRACE: Duration = Duration::from_secs(15);

/// How long a request lives.
pub const TTL: Duration = Duration::from_secs(300);

/// Bounds that no test reaches by accident.
pub const ROOMY: Bounds = Bounds { grace: GRACE, max_pending: 1_000, pending_bytes: 1 << 30 };

/// What a node says at which the vault has a socket.
pub const LIVE: Option<Standing> = Some(Standing::Live);

/// A vault that everybody asks for.
pub const VAULT: &str = "vault_demo01";

/// The run of the node of that number.
pub fn run(number: usize) -> NodeRun {
    NodeRun { node: format!("node-{number}").parse().unwrap(), generation: Generation(1) }
}

/// The number of the node of that run.
pub fn number_of(run: &NodeRun) -> usize {
    run.node.as_str().strip_prefix("node-").unwrap().parse().unwrap()
}

/// What one node knows of the vault, and all that the rules need beside it.
pub struct Node {
    pub run: NodeRun,
    pub state: VaultState,
    pub usage: Usage,
    pub metrics: Arc<Metrics>,
    pub bounds: Bounds,
    pub alone: bool,
    pub peers: bool,
    pub now: Millis,
}

impl Node {
    pub fn new(number: usize) -> Self {
        Self::with_rate(number, 1_000_000)
    }

    /// A node whose vault takes `rate` requests at once.
    pub fn with_rate(number: usize, rate: u32) -> Self {
        let limit = Arc::new(VaultLimit::new(NonZeroU32::new(rate).unwrap()));
        Self {
            run: run(number),
            state: VaultState::new(VAULT.into(), limit),
            usage: Usage::default(),
            metrics: Metrics::new(),
            bounds: ROOMY,
            alone: false,
            peers: false,
            now: START,
        }
    }

    /// A node without others.
    pub fn alone() -> Self {
        Self { alone: true, ..Self::new(0) }
    }

    /// Applies a rule; what it gave, and what is to be done elsewhere.
    pub fn apply<R>(&mut self, rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R) -> (R, Vec<Effect>) {
        let mut effects = Vec::new();
        let mut context = Context {
            now: self.now,
            me: &self.run,
            alone: self.alone,
            peers: self.peers,
            bounds: &self.bounds,
            usage: &self.usage,
            metrics: &self.metrics,
            effects: &mut effects,
        };
        let result = rule(&mut self.state, &mut context);
        (result, effects)
    }

    /// Applies a rule; what is to be done elsewhere.
    pub fn call(&mut self, rule: impl FnOnce(&mut VaultState, &mut Context<'_>)) -> Vec<Effect> {
        self.apply(rule).1
    }

    /// Bytes of all records, bytes of open ones, records, open ones, undelivered ones.
    pub fn figures(&self) -> [i64; 5] {
        let vault = &self.metrics.vault;
        [
            self.usage.bytes.load(Ordering::Relaxed) as i64,
            self.usage.open_bytes.load(Ordering::Relaxed) as i64,
            vault.records.get(),
            vault.pending.get(),
            vault.undelivered.get(),
        ]
    }
}

/// A socket of a vault or of an agent, seen from the client.
#[derive(Clone)]
pub struct Client {
    pub outbox: Outbox,
}

impl Client {
    pub fn new() -> Self {
        Self::with_limit(1 << 20)
    }

    /// A client for which at most so many bytes wait.
    pub fn with_limit(bytes: usize) -> Self {
        Self { outbox: Outbox::new(bytes) }
    }

    /// What has been sent to the client since it last looked.
    pub fn received(&self) -> Vec<String> {
        let mut context = std::task::Context::from_waker(futures::task::noop_waker_ref());
        let mut received = Vec::new();
        while let Poll::Ready(Next::Write(Outgoing::Text(text))) = self.outbox.poll_next(&mut context) {
            received.push(text.as_str().to_owned());
        }
        received
    }
}

/// A session of the vault on a socket; its epoch is `epoch`.
pub fn session(number: u64, epoch: u64, client: &Client) -> Session {
    Session {
        number,
        epoch: Epoch(epoch),
        key: Bytes::from_static(b"key of the vault"),
        outbox: Some(client.outbox.clone()),
    }
}

/// An agent with one socket.
#[derive(Clone)]
pub struct Agent {
    pub client: Client,
    pub socket: Arc<AgentSocket>,
    pub submitter: Submitter,
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// `ack` of that request.
    Accepted(String),
    /// An answer of the vault.
    Answer(String),
    /// An error with that code, of that request.
    Error(String, String),
}

impl Agent {
    /// An agent at 10.0.0.`last`.
    pub fn new(last: u8) -> Self {
        let client = Client::new();
        let socket = Arc::new(AgentSocket { outbox: client.outbox.clone(), pending: AtomicUsize::new(0) });
        Self { client, socket, submitter: Submitter { address: IpAddr::from([10, 0, 0, last]), token: None } }
    }

    pub fn pending(&self) -> usize {
        self.socket.pending.load(Ordering::Relaxed)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.client.received().iter().map(|frame| heard(frame)).collect()
    }

    /// The request of that name, to be told on this agent's socket.
    pub fn request(&self, name: &str) -> NewRequest {
        request(name, self.submitter, Waiter::socket(&self.socket))
    }

    /// The same over HTTP.
    pub fn request_by(&self, name: &str, waiter: Waiter) -> NewRequest {
        request(name, Submitter { token: Some(PollToken([7; 16])), ..self.submitter }, waiter)
    }

    /// What identifies the request of that name when this agent sends it.
    pub fn id(&self, name: &str) -> RecordId {
        RecordId::of(name, self.submitter.address)
    }
}

fn request(name: &str, submitter: Submitter, waiter: Waiter) -> NewRequest {
    // A name such as "r1#second" is another envelope with the id "r1".
    let request = name.split('#').next().unwrap_or_default();
    NewRequest {
        id: RecordId::of(name, submitter.address),
        request: RequestId::from(request),
        frame: format!("{name} from {}", submitter.address).into(),
        expires: START.plus(TTL),
        submitter,
        waiter,
        span: tracing::Span::none(),
    }
}

/// Reads a frame for an agent. Answers in these tests are plain text.
pub fn heard(frame: &str) -> Heard {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(frame) else { return Heard::Answer(frame.to_owned()) };
    let text = |name: &str| json["payload"][name].as_str().unwrap_or_default().to_owned();
    match json["type"].as_str() {
        Some("ack") => Heard::Accepted(text("request_id")),
        Some("error") => Heard::Error(text("code"), text("request_id")),
        kind => panic!("an agent was sent {kind:?}"),
    }
}

/// What a node does with a frame from another.
pub fn received(from: &NodeRun, body: Body) -> impl FnOnce(&mut VaultState, &mut Context<'_>) {
    let named = |request: &str, id: &Option<crate::cluster::proto::Bits>| {
        (RequestId::from(request), frames::id_from(id.as_ref()).expect("an id"))
    };
    move |state, context| match body {
        Body::Deliver(deliver) => state.deliver(from, frames::delivered(*deliver, from).expect("well formed"), context),
        Body::Accepted(accepted) => {
            let (request, id) = named(&accepted.request_id, &accepted.record_id);
            state.accepted(&request, id, accepted.remaining, context);
        }
        Body::Refused(refused) => state.refused(from, &refused, context),
        Body::Answer(answer) => {
            let (request, id) = named(&answer.request_id, &answer.record_id);
            state.answered(&request, id, Utf8Bytes::try_from(answer.frame).expect("text"), context);
        }
        other => panic!("no rule sends {other:?}"),
    }
}

/// Carries frames between the nodes until none is left, and returns all other effects with where they arose.
pub fn carry(nodes: &mut [&mut Node], at: usize, effects: Vec<Effect>) -> Vec<(usize, Effect)> {
    let (mut under_way, mut rest): (VecDeque<_>, Vec<_>) = (effects.into_iter().map(|e| (at, e)).collect(), Vec::new());
    for frames in 0.. {
        assert!(frames < 1_000, "frames without end: {under_way:?}");
        let Some((at, effect)) = under_way.pop_front() else { break };
        let (from, Effect::Send(to, body)) = (nodes[at].run.clone(), &effect) else {
            rest.push((at, effect));
            continue;
        };
        let Some(to) = nodes.iter().position(|node| node.run == *to) else {
            rest.push((at, effect));
            continue;
        };
        let caused = nodes[to].call(received(&from, body.clone()));
        under_way.extend(caused.into_iter().map(|effect| (to, effect)));
    }
    rest
}
