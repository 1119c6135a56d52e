//! Figures of the mailbox service, under our names and, where the relay of the protocol has one, under its own.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Reason;

/// Mailbox sessions, and the blobs that pass.
#[derive(Debug)]
pub struct MailboxMetrics {
    /// Sessions since start: connections whose handshake was good.
    pub sessions_opened: Counter,
    /// Sessions now.
    pub sessions: Gauge,
    /// Connections without a good handshake, by what was wrong.
    pub rejected_handshakes: Family<Reason, Counter>,
    /// The same, all together.
    pub handshake_errors: Counter,
    /// Sessions that may not read, because another key owns their mailbox.
    pub send_only: Counter,
    /// Sessions that did not read for a while, because it could not be found out whether a key owns their mailbox.
    pub doubted: Counter,
    /// Frames after the handshake.
    pub received: Counter,
    /// Frames queued for clients.
    pub sent: Counter,
    /// Frames that got silence, by why: `malformed`, `oversize`, `text`, `identity`, `hash`, `ignored`.
    pub ignored: Family<Reason, Counter>,
    /// Stores answered `Failed`, by why.
    pub failed: Family<Reason, Counter>,
    /// Frames ignored, and stores that failed, all together.
    pub rejected: Counter,
    /// Frames over a rate, by which: `name`, `address`, `recovery`.
    pub limited: Family<Reason, Counter>,
    /// The same, all together.
    pub rate_limited: Counter,
    /// Seconds from a blob's frame to its answer.
    pub store_seconds: Histogram,
    /// Blobs, messages between devices included, that were stored.
    pub stored: Counter,
    /// Repeats of messages that were stored or done with already.
    pub repeats: Counter,
    /// Blobs in the store of this node, with what has expired and is not yet swept.
    pub blobs: Gauge,
    /// Blobs written to a recipient's socket; one that is delivered again counts again.
    pub delivered: Counter,
    /// Blobs that acknowledgments deleted.
    pub acknowledged: Counter,
    /// Acknowledgments of what is not there.
    pub acknowledged_nothing: Counter,
    /// Notes that a message is done with whose holder cannot be told now.
    pub noted_done: Counter,
    /// Acknowledgments of what nobody here was sent, whose holder may be away, and that are not noted, by whose share is
    /// used up: that of the `mailbox`, the `address`, the other `cluster`, or of `all`.
    pub not_noted: Family<Reason, Counter>,
    /// Blobs that purges deleted.
    pub purged: Counter,
    /// Blobs deleted because they had expired.
    pub expired: Counter,
    /// Notices to senders that did not fit or whose sender is not connected anywhere.
    pub notices_dropped: Counter,
    /// Blobs that were not delivered because their frame fits no outbox; they wait until they expire.
    pub undeliverable: Counter,
    /// Blobs that other nodes held, fetched for sessions of this one.
    pub pulled: Counter,
    /// Times that another node did not say in time what it holds.
    pub left_out: Counter,
    /// Copies of messages that were not delivered, but deleted, because another copy was done with.
    pub copies_deleted: Counter,
    /// Mailboxes that other nodes have sessions of, when last counted.
    pub interests: Gauge,
    /// Lists of mailboxes, and purges, that are still to be looked up for other nodes.
    pub lookups: Gauge,
    /// Recovery proofs stored by way of this node, less those purged.
    pub recovery_proofs: Gauge,
    /// Recovery proofs stored by way of this node.
    pub recovery_stored: Counter,
}

impl MailboxMetrics {
    /// Counts a frame that gets silence.
    pub fn ignore(&self, why: &'static str) {
        super::count(&self.ignored, why);
        self.rejected.inc();
    }

    /// Counts a store that is answered `Failed`.
    pub fn fail(&self, why: &'static str) {
        super::count(&self.failed, why);
        self.rejected.inc();
    }

    /// Counts a frame over a rate.
    pub fn limit(&self, which: &'static str) {
        super::count(&self.limited, which);
        self.rate_limited.inc();
    }

    /// Counts a connection without a good handshake.
    pub fn reject_handshake(&self, why: &'static str) {
        super::count(&self.rejected_handshakes, why);
        self.handshake_errors.inc();
    }

    /// `ours` and `theirs` are the registries of the two families of names.
    pub(super) fn register(ours: &mut Registry, theirs: &mut Registry) -> Self {
        let m = Self {
            sessions_opened: Counter::default(),
            sessions: Gauge::default(),
            rejected_handshakes: Family::default(),
            handshake_errors: Counter::default(),
            send_only: Counter::default(),
            doubted: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            ignored: Family::default(),
            failed: Family::default(),
            rejected: Counter::default(),
            limited: Family::default(),
            rate_limited: Counter::default(),
            // 0.1 ms to 13 s.
            store_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            stored: Counter::default(),
            repeats: Counter::default(),
            blobs: Gauge::default(),
            delivered: Counter::default(),
            acknowledged: Counter::default(),
            acknowledged_nothing: Counter::default(),
            noted_done: Counter::default(),
            not_noted: Family::default(),
            purged: Counter::default(),
            expired: Counter::default(),
            notices_dropped: Counter::default(),
            undeliverable: Counter::default(),
            pulled: Counter::default(),
            left_out: Counter::default(),
            copies_deleted: Counter::default(),
            interests: Gauge::default(),
            lookups: Gauge::default(),
            recovery_proofs: Gauge::default(),
            recovery_stored: Counter::default(),
        };
        m.register_ours(ours.sub_registry_with_prefix("mailbox"));
        m.register_theirs(theirs);
        m
    }

    fn register_ours(&self, r: &mut Registry) {
        r.register("sessions_opened", "Connections whose handshake was good", self.sessions_opened.clone());
        r.register("sessions", "Mailbox sessions now", self.sessions.clone());
        r.register("rejected_handshakes", "Handshakes refused, by reason", self.rejected_handshakes.clone());
        r.register("send_only", "Sessions that may not read, for lack of proof", self.send_only.clone());
        r.register(
            "doubted",
            "Sessions for which nobody could say whether a key owns their name",
            self.doubted.clone(),
        );
        r.register("ignored", "Frames that got silence, by reason", self.ignored.clone());
        r.register("failed", "Stores answered Failed, by reason", self.failed.clone());
        r.register("limited", "Frames over a rate, by which", self.limited.clone());
        r.register("store_seconds", "Seconds from a blob's frame to its answer", self.store_seconds.clone());
        r.register("stored", "Blobs stored", self.stored.clone());
        r.register("repeats", "Repeats of messages known already", self.repeats.clone());
        r.register("blobs", "Blobs in the store", self.blobs.clone());
        r.register("delivered", "Blobs written to recipients", self.delivered.clone());
        r.register("acknowledged", "Blobs that acknowledgments deleted", self.acknowledged.clone());
        r.register("acknowledged_nothing", "Acknowledgments of nothing", self.acknowledged_nothing.clone());
        r.register("noted_done", "Notes that messages are done with", self.noted_done.clone());
        r.register("not_noted", "Acknowledgments for nodes that are away, not noted", self.not_noted.clone());
        r.register("purged", "Blobs that purges deleted", self.purged.clone());
        r.register("expired", "Blobs deleted because they had expired", self.expired.clone());
        r.register("notices_dropped", "Notices that reached no sender", self.notices_dropped.clone());
        r.register("undeliverable", "Blobs too large to deliver", self.undeliverable.clone());
        r.register("pulled", "Blobs fetched from other nodes", self.pulled.clone());
        r.register("left_out", "Times that another node did not say what it holds", self.left_out.clone());
        r.register("copies_deleted", "Copies deleted because their message was done with", self.copies_deleted.clone());
        r.register("interests", "Mailboxes that other nodes have sessions of", self.interests.clone());
        r.register("lookups", "Lookups for other nodes that wait", self.lookups.clone());
    }

    fn register_theirs(&self, r: &mut Registry) {
        r.register("connections", "Mailbox sessions since start", self.sessions_opened.clone());
        r.register("connections_active", "Mailbox sessions now", self.sessions.clone());
        r.register("connection_errors", "Handshakes refused", self.handshake_errors.clone());
        r.register("messages_received", "Frames from clients", self.received.clone());
        r.register("messages_sent", "Frames to clients", self.sent.clone());
        r.register("messages_rejected", "Frames ignored and stores failed", self.rejected.clone());
        r.register("message_duration_seconds", "Seconds from a blob's frame to its answer", self.store_seconds.clone());
        r.register("blobs_stored", "Blobs in the store", self.blobs.clone());
        r.register("blobs_created", "Blobs stored", self.stored.clone());
        r.register("blobs_delivered", "Blobs written to recipients", self.delivered.clone());
        r.register("blobs_expired", "Blobs deleted because they had expired", self.expired.clone());
        r.register("recovery_proofs_active", "Recovery proofs stored less purged", self.recovery_proofs.clone());
        r.register("recovery_vouchers", "Recovery proofs stored", self.recovery_stored.clone());
        r.register("rate_limited", "Frames over a rate", self.rate_limited.clone());
    }
}
