//! Who calls, and whether they may.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config::Secret;
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::{Call, Metrics, count};
use crate::security::reload::Reloaded;

/// Who is on a connection, as far as the connection tells.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Where it comes from.
    pub address: SocketAddr,
    /// The name in its certificate, which has been verified.
    pub certificate: Option<Arc<str>>,
}

/// Who made a call that was let in.
#[derive(Debug, Clone)]
pub struct Caller {
    connection: Connection,
    token: bool,
}

/// As in the log: where from, and by what right.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.connection.address)?;
        match (&self.connection.certificate, self.token) {
            (Some(name), _) => write!(f, " (certificate {name})"),
            (None, true) => f.write_str(" (token)"),
            (None, false) => Ok(()),
        }
    }
}

impl Caller {
    /// Who made this call, which is counted and, if it `changes` something, logged: `what` says what is asked for.
    ///
    /// # Errors
    /// `INTERNAL` for a call that nobody let in.
    pub fn of<T>(
        request: &Request<T>,
        metrics: &Metrics,
        call: &'static str,
        changes: Option<&str>,
    ) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("nobody let this call in"))?;
        metrics.admin.calls.get_or_create(&Call { call }).inc();
        if let Some(what) = changes {
            tracing::info!(call, %caller, what, "an operator's call");
        }
        Ok(caller)
    }
}

/// Lets calls in that show the token, if there is one.
#[derive(Clone)]
pub struct Auth {
    token: Option<Reloaded<Secret>>,
    metrics: Arc<Metrics>,
    gate: Arc<Mutex<LogGate>>,
}

impl Auth {
    /// `None`: everybody who could connect is let in.
    #[must_use]
    pub fn new(token: Option<Reloaded<Secret>>, metrics: Arc<Metrics>) -> Self {
        Self { token, metrics, gate: Arc::new(Mutex::new(LogGate::once_a_minute())) }
    }

    fn refuse(&self, connection: &Connection, reason: &'static str) -> Status {
        count(&self.metrics.admin.refused, reason);
        if let Some(left_out) = self.gate.lock().pass(reason, Instant::now()) {
            tracing::warn!(address = %connection.address, reason, left_out, "refused a call on the port for operators");
        }
        Status::unauthenticated("show the token of RELAY_ADMIN_TOKEN_FILE as a bearer token")
    }
}

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("a call without a connection"))?;
        if let Some(token) = &self.token {
            let header = request.metadata().get(AUTHORIZATION.as_str());
            let shown = header.and_then(|value| value.as_bytes().split_at_checked(7));
            match shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer ")) {
                None => return Err(self.refuse(&connection, "no_token")),
                Some((_, shown)) if bool::from(shown.ct_eq(token.current().expose())) => {}
                Some(_) => return Err(self.refuse(&connection, "wrong_token")),
            }
        }
        let token = self.token.is_some();
        request.extensions_mut().insert(Caller { connection, token });
        Ok(request)
    }
}
