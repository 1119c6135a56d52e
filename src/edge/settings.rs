//! Sizes and times of the public port.

use std::num::NonZeroU32;
use std::time::Duration;

/// Every bound on a connection; the defaults suit the shipped clients.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Longest WebSocket message taken, in bytes: exactly as many pass, one more closes with 1009.
    pub max_message_size: usize,
    /// Longest HTTP body taken, in bytes: exactly as many pass, one more is answered 413.
    pub max_body_size: usize,
    /// What may wait for one reader, in bytes, before it is cut off.
    pub send_queue_bytes: usize,
    /// Messages, and pings, that one WebSocket may send in a minute; beyond it is closed with 1008.
    pub messages_per_minute: Option<NonZeroU32>,
    /// For the head of a request, for its body, and for the switch to WebSocket.
    pub handshake_timeout: Duration,
    /// How long a socket may accept no byte while some wait for it.
    pub write_timeout: Duration,
    /// How long a WebSocket that is not in use may say nothing before it is closed.
    pub idle_timeout: Duration,
    /// Silence after which a ping is sent.
    pub ping_interval: Duration,
    /// Silence after which the connection is given up.
    pub silence_timeout: Duration,
    /// Silence after a probe, which asks sooner, after which the connection is given up.
    pub probe_timeout: Duration,
    /// From the first bytes of a message to its last.
    pub message_timeout: Duration,
    /// For the other side to answer a close.
    pub close_timeout: Duration,
    /// How often a WebSocket looks at the clock: the precision of all times above, and of `on_tick`.
    pub tick: Duration,
    /// How long HTTP requests in flight may go on once the port stops.
    pub drain_timeout: Duration,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            max_message_size: 1 << 20,
            max_body_size: 1 << 20,
            send_queue_bytes: 4 << 20,
            messages_per_minute: NonZeroU32::new(6_000),
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            ping_interval: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(90),
            // Some round trips and lost packets of a bad mobile line, and short enough for an agent to wait (30 s).
            probe_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
