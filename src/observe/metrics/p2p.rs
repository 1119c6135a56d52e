//! Figures of libp2p peers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Reason, count};

/// Peers, their places, and their circuits.
#[derive(Debug)]
pub struct P2pMetrics {
    /// Connections that stand.
    pub connections: Gauge,
    /// Connections that were turned away, by why.
    pub connections_refused: Family<Reason, Counter>,
    /// Peers that have a place at this node.
    pub reservations: Gauge,
    /// Places that were given, renewals included.
    pub reservations_granted: Counter,
    /// Places that were not given, by why.
    pub reservations_refused: Family<Reason, Counter>,
    /// Circuits that this node carries a half of.
    pub circuits: Gauge,
    /// Circuits that were asked for here and stand, by where the other half is: `here`, `node`, `region`.
    pub circuits_opened: Family<Reason, Counter>,
    /// Circuits that were asked for here and refused, by why.
    pub circuits_refused: Family<Reason, Counter>,
    /// Circuits that have ended, by why.
    pub circuits_ended: Family<Reason, Counter>,
    /// Bytes that circuits have carried through this node, both ways.
    pub circuit_bytes: Counter,
    /// Registrations that this node knows, those taken back included.
    pub registrations: Gauge,
    /// What they are charged.
    pub registration_bytes: Gauge,
    /// Registrations that were not taken, by why.
    pub registrations_refused: Family<Reason, Counter>,
    /// Discoveries that were refused, by why.
    pub discoveries_refused: Family<Reason, Counter>,
    /// Peers that speak gossip.
    pub gossip_peers: Gauge,
    /// Their subscriptions to the relay's topics.
    pub gossip_subscriptions: Gauge,
    /// Messages that peers of this node were the first to bring.
    pub gossip_taken: Counter,
    /// Messages that were queued for peers of this node, once for each.
    pub gossip_sent: Counter,
    /// Messages that were not passed on, by why; most that came another way already are no fault.
    pub gossip_refused: Family<Reason, Counter>,
    /// Bytes of messages that wait to be sent, each counted once.
    pub gossip_waiting_bytes: Gauge,
    /// Calls to the provider of GIFs.
    pub gifs_asked: Counter,
    /// Searches for GIFs that were answered with what was found before.
    pub gifs_kept: Counter,
    /// Searches and calls that found nothing for another reason than that there is nothing, by why.
    pub gifs_failed: Family<Reason, Counter>,
    /// Profiles in the directory that this node knows, those taken back included.
    pub profiles: Gauge,
    /// What they are charged.
    pub profile_bytes: Gauge,
    /// Requests to the directory that were served, by what was asked: `register`, `search`, `remove`.
    pub directory_requests: Family<Reason, Counter>,
    /// Requests to the directory that were refused, by why.
    pub directory_refused: Family<Reason, Counter>,
    /// Credentials for TURN that were given.
    pub turn_credentials: Counter,
    /// Credentials for TURN that were not given, by why.
    pub turn_credentials_refused: Family<Reason, Counter>,
    /// Streams of peers that were reset before they were served, by why.
    pub streams_refused: Family<Reason, Counter>,
}

impl P2pMetrics {
    /// Counts a connection that was turned away.
    pub fn refuse_connection(&self, reason: &'static str) {
        count(&self.connections_refused, reason);
    }

    /// Counts a place that was not given.
    pub fn refuse_reservation(&self, reason: &'static str) {
        count(&self.reservations_refused, reason);
    }

    /// Counts a circuit that was refused.
    pub fn refuse_circuit(&self, reason: &'static str) {
        count(&self.circuits_refused, reason);
    }

    /// Counts a circuit that stands.
    pub fn opened(&self, to: &'static str) {
        count(&self.circuits_opened, to);
    }

    /// Counts a circuit that has ended.
    pub fn ended(&self, reason: &'static str) {
        count(&self.circuits_ended, reason);
    }

    /// Counts a registration that was not taken.
    pub fn refuse_registration(&self, reason: &'static str) {
        count(&self.registrations_refused, reason);
    }

    /// Counts a discovery that was refused.
    pub fn refuse_discovery(&self, reason: &'static str) {
        count(&self.discoveries_refused, reason);
    }

    /// Counts a message of gossip that was not passed on.
    pub fn refuse_gossip(&self, reason: &'static str) {
        count(&self.gossip_refused, reason);
    }

    /// Counts a search for GIFs that went wrong.
    pub fn fail_gif(&self, reason: &'static str) {
        count(&self.gifs_failed, reason);
    }

    /// Counts a request to the directory that was served.
    pub fn answer_directory(&self, kind: &'static str) {
        count(&self.directory_requests, kind);
    }

    /// Counts a request to the directory that was refused.
    pub fn refuse_directory(&self, reason: &'static str) {
        count(&self.directory_refused, reason);
    }

    /// Counts credentials that were not given.
    pub fn refuse_turn_credentials(&self, reason: &'static str) {
        count(&self.turn_credentials_refused, reason);
    }

    /// Counts a stream that was reset.
    pub fn refuse_stream(&self, reason: &'static str) {
        count(&self.streams_refused, reason);
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            connections: Gauge::default(),
            connections_refused: Family::default(),
            reservations: Gauge::default(),
            reservations_granted: Counter::default(),
            reservations_refused: Family::default(),
            circuits: Gauge::default(),
            circuits_opened: Family::default(),
            circuits_refused: Family::default(),
            circuits_ended: Family::default(),
            circuit_bytes: Counter::default(),
            registrations: Gauge::default(),
            registration_bytes: Gauge::default(),
            registrations_refused: Family::default(),
            discoveries_refused: Family::default(),
            gossip_peers: Gauge::default(),
            gossip_subscriptions: Gauge::default(),
            gossip_taken: Counter::default(),
            gossip_sent: Counter::default(),
            gossip_refused: Family::default(),
            gossip_waiting_bytes: Gauge::default(),
            gifs_asked: Counter::default(),
            gifs_kept: Counter::default(),
            gifs_failed: Family::default(),
            profiles: Gauge::default(),
            profile_bytes: Gauge::default(),
            directory_requests: Family::default(),
            directory_refused: Family::default(),
            turn_credentials: Counter::default(),
            turn_credentials_refused: Family::default(),
            streams_refused: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("p2p");
        r.register("connections", "Connections of libp2p peers", m.connections.clone());
        r.register("connections_refused", "Connections turned away, by reason", m.connections_refused.clone());
        r.register("reservations", "Peers that have a place at this node", m.reservations.clone());
        r.register("reservations_granted", "Places given, renewals included", m.reservations_granted.clone());
        r.register("reservations_refused", "Places not given, by reason", m.reservations_refused.clone());
        r.register("circuits", "Circuits with a half at this node", m.circuits.clone());
        r.register("circuits_opened", "Circuits opened, by where the other half is", m.circuits_opened.clone());
        r.register("circuits_refused", "Circuits not opened, by reason", m.circuits_refused.clone());
        r.register("circuits_ended", "Circuits ended, by reason", m.circuits_ended.clone());
        r.register("circuit_bytes", "Bytes carried by circuits, both ways", m.circuit_bytes.clone());
        r.register("registrations", "Registrations known at this node", m.registrations.clone());
        r.register("registration_bytes", "Bytes that they are charged", m.registration_bytes.clone());
        r.register("registrations_refused", "Registrations not taken, by reason", m.registrations_refused.clone());
        r.register("discoveries_refused", "Discoveries refused, by reason", m.discoveries_refused.clone());
        r.register("gossip_peers", "Peers that speak gossip", m.gossip_peers.clone());
        r.register("gossip_subscriptions", "Their subscriptions to our topics", m.gossip_subscriptions.clone());
        r.register("gossip_taken", "Messages first brought by peers here", m.gossip_taken.clone());
        r.register("gossip_sent", "Messages queued for peers, once for each", m.gossip_sent.clone());
        r.register("gossip_refused", "Messages not passed on, by reason", m.gossip_refused.clone());
        r.register("gossip_waiting_bytes", "Bytes of messages that wait to be sent", m.gossip_waiting_bytes.clone());
        r.register("gifs_asked", "Calls to the provider of GIFs", m.gifs_asked.clone());
        r.register("gifs_kept", "Searches answered with what was found before", m.gifs_kept.clone());
        r.register("gifs_failed", "Searches for GIFs gone wrong, by reason", m.gifs_failed.clone());
        r.register("profiles", "Profiles in the directory known at this node", m.profiles.clone());
        r.register("profile_bytes", "Bytes that they are charged", m.profile_bytes.clone());
        r.register("directory_requests", "Requests to the directory served, by kind", m.directory_requests.clone());
        r.register("directory_refused", "Requests to the directory refused, by reason", m.directory_refused.clone());
        r.register("turn_credentials", "Credentials for TURN given", m.turn_credentials.clone());
        r.register("turn_credentials_refused", "Credentials not given, by reason", m.turn_credentials_refused.clone());
        r.register("streams_refused", "Streams reset unserved, by reason", m.streams_refused.clone());
        m
    }
}
