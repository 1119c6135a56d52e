//! The passing of time on one WebSocket: when to ping, and when to give up. Pure: the moments are passed in.

use std::time::Instant;

use super::settings::EdgeSettings;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A ping: the other side has said nothing for a while.
    Ping,
    /// The close of a connection that nobody uses.
    Idle,
    /// The end, for this reason.
    Cut(&'static str),
}

/// When what happened last.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    message: Instant,
    pinged: bool,
    /// Since when a sign of life has been asked for.
    probed: Option<Instant>,
    /// Since when bytes have come without completing anything.
    partial: Option<Instant>,
    /// Since when bytes have waited for a socket that takes none.
    blocked: Option<Instant>,
    closing: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, message: now, pinged: false, probed: None, partial: None, blocked: None, closing: None }
    }

    /// Bytes have come, and they completed a frame or not.
    ///
    /// Control frames count as complete, so a message in fragments with pings between them is not bounded
    /// here, but by the time a connection may stay without a whole message.
    pub(super) fn heard(&mut self, now: Instant, complete: bool) {
        self.heard = now;
        (self.pinged, self.probed) = (false, None);
        self.partial = if complete { None } else { self.partial.or(Some(now)) };
    }

    /// A message has come.
    pub(super) fn message(&mut self, now: Instant) {
        self.message = now;
    }

    /// Reading was held back until now, so that nothing could be heard.
    pub(super) fn held_back(&mut self, now: Instant) {
        self.heard = now;
        self.partial = None;
        self.restart_probe(now);
    }

    /// A sign of life is asked for.
    pub(super) fn probe(&mut self, now: Instant) {
        self.probed.get_or_insert(now);
    }

    /// Only from now on the other side can answer a probe.
    fn restart_probe(&mut self, now: Instant) {
        self.probed = self.probed.map(|_| now);
    }

    /// The socket has taken some bytes; `all` of them or not.
    pub(super) fn wrote(&mut self, now: Instant, all: bool) {
        self.blocked = (!all).then_some(now);
        self.restart_probe(now);
    }

    /// The socket takes no bytes now.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.blocked.get_or_insert(now);
    }

    /// Our close has been queued.
    pub(super) fn closing(&mut self, now: Instant) {
        self.closing.get_or_insert(now);
    }

    /// What is due at `now`; `in_use` tells whether silence is no reason to close.
    pub(super) fn due(&mut self, now: Instant, settings: &EdgeSettings, in_use: bool) -> Due {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let longer = |moment: Option<Instant>, most| moment.is_some_and(|moment| since(moment) >= most);
        if longer(self.closing, settings.close_timeout) {
            return Due::Cut("close_timeout");
        }
        if longer(self.blocked, settings.write_timeout) {
            return Due::Cut("write_timeout");
        }
        if self.closing.is_some() {
            return Due::Nothing;
        }
        // A probe that waits behind other bytes has not been sent.
        let is_dead = self.blocked.is_none() && longer(self.probed, settings.probe_timeout);
        if is_dead || since(self.heard) >= settings.silence_timeout {
            return Due::Cut("silent");
        }
        if longer(self.partial, settings.message_timeout) {
            return Due::Cut("message_timeout");
        }
        if !in_use && since(self.message) >= settings.idle_timeout {
            return Due::Idle;
        }
        if !self.pinged && since(self.heard) >= settings.ping_interval {
            self.pinged = true;
            return Due::Ping;
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Clock {
        start: Instant,
        liveness: Liveness,
        settings: EdgeSettings,
    }

    fn clock() -> Clock {
        let start = Instant::now();
        let settings = EdgeSettings { idle_timeout: Duration::from_secs(300), ..EdgeSettings::default() };
        Clock { start, liveness: Liveness::new(start), settings }
    }

    impl Clock {
        fn at(&self, secs: u64) -> Instant {
            self.start + Duration::from_secs(secs)
        }

        fn due(&mut self, secs: u64) -> Due {
            let now = self.at(secs);
            self.liveness.due(now, &self.settings, false)
        }
    }

    #[test]
    fn silence_is_met_by_one_ping_and_then_by_the_end() {
        let mut clock = clock();
        assert_eq!(clock.due(29), Due::Nothing);
        assert_eq!(clock.due(30), Due::Ping);
        assert_eq!(clock.due(31), Due::Nothing);
        assert_eq!(clock.due(89), Due::Nothing);
        assert_eq!(clock.due(90), Due::Cut("silent"));
    }

    #[test]
    fn an_answer_to_the_ping_starts_over() {
        let mut clock = clock();
        assert_eq!(clock.due(30), Due::Ping);
        clock.liveness.heard(clock.at(31), true);
        assert_eq!(clock.due(60), Due::Nothing);
        assert_eq!(clock.due(61), Due::Ping);
    }

    #[test]
    fn a_probe_must_be_answered_soon_by_whatever_is_said() {
        let mut clock = clock();
        clock.liveness.probe(clock.at(10));
        clock.liveness.probe(clock.at(12));
        assert_eq!(clock.due(14), Due::Nothing);
        assert_eq!(clock.due(15), Due::Cut("silent"));
        clock.liveness.heard(clock.at(15), false);
        assert_eq!(clock.due(29), Due::Nothing);
    }

    #[test]
    fn a_probe_that_could_not_be_sent_or_answered_yet_counts_from_when_it_can() {
        let mut clock = clock();
        clock.liveness.probe(clock.at(1));
        clock.liveness.blocked(clock.at(1));
        assert_eq!(clock.due(20), Due::Nothing);
        clock.liveness.wrote(clock.at(20), true);
        assert_eq!(clock.due(24), Due::Nothing);
        clock.liveness.held_back(clock.at(24));
        assert_eq!(clock.due(28), Due::Nothing);
        assert_eq!(clock.due(29), Due::Cut("silent"));
    }

    #[test]
    fn a_connection_in_use_is_never_idle() {
        let mut clock = clock();
        clock.liveness.heard(clock.at(299), true);
        assert_eq!(clock.due(300), Due::Idle);
        let now = clock.at(300);
        assert_eq!(clock.liveness.due(now, &clock.settings, true), Due::Nothing);
    }

    #[test]
    fn a_message_must_be_whole_in_time() {
        let mut clock = clock();
        for secs in 10..70 {
            clock.liveness.heard(clock.at(secs), false);
            assert_eq!(clock.due(secs), Due::Nothing);
        }
        assert_eq!(clock.due(70), Due::Cut("message_timeout"));
        clock.liveness.heard(clock.at(70), true);
        assert_eq!(clock.due(70), Due::Nothing);
    }

    #[test]
    fn a_socket_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
        let mut clock = clock();
        clock.liveness.heard(clock.at(25), true);
        clock.liveness.blocked(clock.at(1));
        clock.liveness.blocked(clock.at(20));
        assert_eq!(clock.due(30), Due::Nothing);
        clock.liveness.wrote(clock.at(30), false);
        assert_eq!(clock.due(54), Due::Nothing);
        assert_eq!(clock.due(60), Due::Cut("write_timeout"));
        clock.liveness.wrote(clock.at(60), true);
        assert_eq!(clock.due(60), Due::Ping);
    }

    #[test]
    fn a_close_that_is_not_answered_ends_anyway() {
        let mut clock = clock();
        clock.liveness.closing(clock.at(0));
        assert_eq!(clock.due(4), Due::Nothing);
        assert_eq!(clock.due(5), Due::Cut("close_timeout"));
    }
}
