//! What is said over links to other clusters: to peers and by callers, requests; by peers and to callers, what became
//! of them. Whatever does not fit is dropped, and counted.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::convert;
use crate::cluster::ends::{End, VaultsAfar};
use crate::cluster::links::LinkRefused;
use crate::cluster::proto::{self, Deliver, frame::Body, refused::Reason};
use crate::cluster::regions::{Caller, PeerName};
use crate::domain::ids::{NodeRun, RequestId, VaultId};
use crate::runtime::time;
use crate::vault::frames::{self, Delivered};
use crate::vault::refusal::Refusal;
use crate::vault::service::VaultService;
use crate::wire::dcp::envelope::{RecordId, Unchecked};
use crate::wire::dcp::frame::Frame;

impl VaultService {
    /// Sends a frame to the far end of a link.
    ///
    /// # Errors
    /// As much of the frame as says what it was about.
    pub(in crate::vault) fn send_afar(&self, end: &End, body: Body) -> Result<(), Box<Body>> {
        match (end, body) {
            (End::Peer(peer), Body::Deliver(deliver)) => self.send_to_peer(peer, *deliver),
            (End::Caller(caller), body) => {
                if let Body::Answer(proto::Answer { record_id, .. }) | Body::Refused(proto::Refused { record_id, .. }) =
                    &body
                    && let Some(id) = frames::id_from(record_id.as_ref())
                {
                    self.inner.afar.callers.lock().ended(*caller, id);
                }
                let kept = body.clone();
                self.tell_caller(*caller, body).map_err(|_| Box::new(kept))
            }
            // No rule says anything else to a peer.
            (End::Peer(_), body) => Err(Box::new(body)),
        }
    }

    fn send_to_peer(&self, peer: &PeerName, deliver: Deliver) -> Result<(), Box<Body>> {
        let unsent = Deliver {
            record_id: deliver.record_id,
            vault_id: deliver.vault_id.clone(),
            request_id: deliver.request_id.clone(),
            ..Deliver::default()
        };
        // Who asked is this cluster's affair.
        let crossing = Deliver { crossings: deliver.crossings + 1, address: None, token: None, ..deliver };
        let out = self.inner.cluster.afar.out.get();
        if out.is_none_or(|out| out.send(peer, None, Body::Deliver(Box::new(crossing))).is_err()) {
            return Err(Box::new(Body::Deliver(Box::new(unsent))));
        }
        self.inner.metrics.federation.requests_sent.inc();
        Ok(())
    }

    /// Tells a caller something.
    ///
    /// # Errors
    /// [`LinkRefused`], at once.
    pub(super) fn tell_caller(&self, caller: Caller, body: Body) -> Result<(), LinkRefused> {
        let (cluster, out) = (&self.inner.cluster, self.inner.cluster.afar.out.get());
        out.ok_or(LinkRefused::Gone)?.tell(caller, &cluster.me.node, body)
    }

    /// A caller has sent a request.
    fn delivered_by(&self, caller: Caller, deliver: Deliver) {
        self.inner.metrics.federation.requests_received.inc();
        let vault = VaultId::from(deliver.vault_id.as_str());
        let from = End::Caller(caller).run();
        let (request, id) = (RequestId::from(deliver.request_id.as_str()), frames::id_from(deliver.record_id.as_ref()));
        let Some(id) = id else { return self.inner.metrics.drop_one("afar", "malformed_frame") };
        let refuse = |refusal: &Refusal| {
            let body = frames::refused(&vault, &request, id, refusal);
            self.tell_caller(caller, body).unwrap_or_default();
        };
        let Some(delivered) = read(deliver, &from) else {
            self.inner.metrics.drop_one("afar", "malformed_frame");
            return refuse(&Refusal::Unknown);
        };
        let is_known = self.with_known(vault.as_str(), |_, _| ()).is_some();
        // One that has hung up meanwhile is nobody's any more.
        let party = self.inner.cluster.afar.out.get().and_then(|out| out.party(caller));
        let has_room = (is_known || self.has_room_for_vaults())
            && party.is_some_and(|party| {
                self.inner.afar.callers.lock().take((caller, &party), id, &vault, delivered.frame.len())
            });
        if !has_room {
            self.inner.metrics.drop_one("afar", "no_room");
            return refuse(&Refusal::Full);
        }
        self.with(vault.as_str(), |state, context| state.deliver_from_afar(&from, delivered, context));
    }

    /// A peer says what became of a request; nothing of what it was not sent.
    fn told_of(&self, peer: &PeerName, vault: &str, of: (RequestId, Option<RecordId>), word: Word) {
        let (from, (request, id)) = (End::Peer(peer.clone()).run(), of);
        let Some(id) = id else { return self.inner.metrics.drop_one("afar", "malformed_frame") };
        let heard = self.with_known(vault, |state, context| {
            let is_theirs = state.is_with(&request, id, &from);
            match word {
                _ if !is_theirs => {}
                Word::Accepted(remaining) => state.accepted(&request, id, remaining, context),
                Word::Answer(answer) => {
                    // Only a first answer counts for the peer.
                    if state.answered_afar(&from, &request, id, answer, context) {
                        self.inner.afar.doubts.lock().answers(peer);
                    }
                }
                Word::Refused(refused) => {
                    if matches!(refused.reason(), Reason::Unspecified | Reason::NotHere | Reason::NotConnected) {
                        // It is not believed again at once, or a request could go to and fro.
                        self.is_absent_at(state.vault(), peer);
                    }
                    state.refused(&from, &refused, context);
                }
            }
            is_theirs
        });
        if heard != Some(true) {
            self.inner.metrics.drop_one("afar", "not_asked");
        }
        self.make_room();
    }
}

/// What a peer says of a request.
enum Word {
    Accepted(Option<u32>),
    Refused(proto::Refused),
    Answer(Utf8Bytes),
}

impl VaultsAfar for VaultService {
    fn asked(&self, caller: Caller, ask: u64, body: Body) {
        match body {
            Body::Locate(locate) => self.answer_locate(caller, ask, &locate),
            Body::Deliver(deliver) => self.delivered_by(caller, *deliver),
            _ => self.inner.metrics.drop_one("afar", "unfit_frame"),
        }
    }

    fn hung_up(&self, caller: Caller) {
        let vaults = self.inner.afar.callers.lock().hung_up(caller);
        let run = End::Caller(caller).run();
        for vault in vaults {
            self.with_known(vault.as_str(), |state, context| state.node_lost(&run, context));
        }
    }

    fn told(&self, peer: &PeerName, body: Body) {
        let named = |request: &str, id: &Option<proto::Bits>| (RequestId::from(request), frames::id_from(id.as_ref()));
        match body {
            Body::Accepted(accepted) => {
                let of = named(&accepted.request_id, &accepted.record_id);
                self.told_of(peer, &accepted.vault_id, of, Word::Accepted(accepted.remaining));
            }
            Body::Refused(refused) => {
                let of = named(&refused.request_id, &refused.record_id);
                self.told_of(peer, &refused.vault_id.clone(), of, Word::Refused(refused));
            }
            Body::Answer(answer) => {
                let of = named(&answer.request_id, &answer.record_id);
                match frames::text(answer.frame).filter(is_response) {
                    Some(frame) => self.told_of(peer, &answer.vault_id, of, Word::Answer(frame)),
                    None => self.inner.metrics.drop_one("afar", "malformed_frame"),
                }
            }
            Body::Announce(announce) => {
                if let Some(principal) = convert::principal_from(announce.principal.as_ref()) {
                    let vault = VaultId::from(&*principal.name);
                    self.inner.afar.absences.lock().forget_at(&vault, peer);
                    self.with_known(vault.as_str(), |state, context| state.seen_afar(context));
                }
            }
            _ => self.inner.metrics.drop_one("afar", "unfit_frame"),
        }
    }

    fn peer_up(&self, peer: &PeerName) {
        self.inner.afar.absences.lock().forget_peer(peer);
        self.for_each(|state, context| state.seen_afar(context));
    }

    fn peer_down(&self, peer: &PeerName) {
        let run = End::Peer(peer.clone()).run();
        self.for_each(|state, context| state.node_lost(&run, context));
    }

    fn peer_gone(&self, _: &PeerName) {
        if let Some(out) = self.inner.cluster.afar.out.get() {
            self.inner.afar.keep(|peer| out.knows(peer));
        }
    }
}

/// What a caller's request says, checked as an agent's is: it is a request to that vault, and of that name. Who asked
/// is not said, so nobody in this cluster can poll for it.
fn read(deliver: Deliver, from: &NodeRun) -> Option<Delivered> {
    if deliver.crossings != 1 || deliver.guard || !deliver.answer.is_empty() {
        return None;
    }
    let own = Deliver {
        address: Some(convert::address(std::net::Ipv4Addr::UNSPECIFIED.into())),
        token: None,
        origin_node: String::new(),
        // It is part of the buffer of a batch, of which nothing else is to be kept.
        frame: Bytes::copy_from_slice(&deliver.frame),
        home_node: String::new(),
        ..deliver
    };
    let (vault, request) = (own.vault_id.clone(), own.request_id.clone());
    let delivered = frames::delivered(own, from)?;
    let envelope = {
        let frame = Frame::parse(delivered.frame.as_bytes()).filter(|frame| frame.kind == "request")?;
        let envelope = Unchecked::parse(frame.payload?.get().as_bytes())?.check(time::now()).ok()?;
        (envelope.vault_id == vault && envelope.request_id == request).then_some(envelope.expires)?
    };
    Some(Delivered { expires: delivered.expires.min(envelope), ..delivered })
}

fn is_response(text: &Utf8Bytes) -> bool {
    Frame::parse(text.as_bytes()).is_some_and(|frame| frame.kind == "response" && frame.payload.is_some())
}

impl VaultService {
    /// The gauge of requests of other clusters that have not ended.
    pub(in crate::vault) fn count_callers(&self) {
        let open = self.inner.afar.callers.lock().open();
        self.inner.metrics.federation.requests_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}
