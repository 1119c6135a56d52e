//! What can go wrong in a benchmark, worded for the person who started it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio_tungstenite::tungstenite;

use crate::security::noise::NoiseError;

/// Why one connection could not be opened or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address does not resolve.
    #[error("cannot resolve {authority}: {cause}; check the host name in the URL")]
    Resolve {
        /// `host:port` as asked for.
        authority: String,
        /// The resolver's answer.
        cause: io::Error,
    },
    /// The source address cannot be used on this machine.
    #[error("cannot bind the source address {address}: {cause}; choose one that this machine has")]
    Bind {
        /// The source address.
        address: IpAddr,
        /// The system's answer.
        cause: io::Error,
    },
    /// The relay does not accept TCP connections there.
    #[error("cannot connect to {address}: {cause}; is the relay running?")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// The system's answer.
        cause: io::Error,
    },
    /// The WebSocket handshake failed, or the connection broke later.
    #[error("WebSocket: {0}")]
    WebSocket(Box<tungstenite::Error>),
    /// The relay closed the connection.
    #[error("the relay closed the connection")]
    Closed,
    /// The relay answered the registration with an error (section 5.1).
    #[error("registration refused: {code} {message}")]
    Refused {
        /// The relay's code, for instance `RELAY_UNAUTHORIZED`.
        code: String,
        /// The relay's text.
        message: String,
    },
    /// No answer in time.
    #[error("no answer from the relay within {seconds} s; is it overloaded or stopped?")]
    TimedOut {
        /// How long was waited.
        seconds: u64,
    },
    /// The relay does not have the key that its URL says, or a frame does not fit into a Noise message.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The seed is no Ed25519 key, or the generator failed.
    #[error("cannot make a signing key from this seed")]
    Key,
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Closed,
            other => Self::WebSocket(Box::new(other)),
        }
    }
}

impl ClientError {
    /// A short name to count this error by.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Resolve { .. } => "RESOLVE_FAILED",
            Self::Bind { .. } => "BIND_FAILED",
            Self::Connect { .. } => "CONNECT_FAILED",
            Self::WebSocket(error) if matches!(**error, tungstenite::Error::Http(_)) => "HANDSHAKE_REFUSED",
            Self::WebSocket(_) | Self::Closed => "CONNECTION_LOST",
            Self::Refused { code, .. } => code,
            Self::TimedOut { .. } => "NO_ANSWER",
            Self::Noise(_) => "NOISE_FAILED",
            Self::Key => "BAD_KEY",
        }
    }
}

/// Why a whole benchmark did not run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A connection that the run cannot start without.
    #[error("{role} {index}: {cause}")]
    Start {
        /// `vault`, `agent`, `client` or `recipient`.
        role: &'static str,
        /// Which of them, from zero.
        index: usize,
        /// Why.
        cause: ClientError,
    },
    /// The process may not open that many files.
    #[error("needs {needed} open files but the limit is {limit}: run `ulimit -n {needed}` in this shell first")]
    OpenFiles {
        /// What the run needs.
        needed: u64,
        /// The soft limit now.
        limit: u64,
    },
    /// A process named by `--cpu-of` cannot be read.
    #[error("cannot read {path}: {cause}; is the process of --cpu-of running on this machine?")]
    Process {
        /// The file.
        path: String,
        /// The system's answer.
        cause: io::Error,
    },
    /// A file in `/proc` has a form that is not known.
    #[error("cannot find {what} in {path}; this needs Linux")]
    ProcessFormat {
        /// The file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
    /// The floor cannot listen.
    #[error("cannot listen on {address}: {cause}; choose another --listen address")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        cause: io::Error,
    },
    /// The floor's listener broke.
    #[error("accepting connections failed: {0}")]
    Accept(io::Error),
    /// A worker of the benchmark ended by a panic.
    #[error("a worker of the benchmark failed; please report this")]
    Worker(#[from] tokio::task::JoinError),
    /// The report cannot be written as JSON.
    #[error("cannot write the report as JSON")]
    Json(#[from] serde_json::Error),
    /// The report cannot be printed.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}
