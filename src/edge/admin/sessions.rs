//! The sessions at this node, a page at a time, and the mailboxes as a whole.

use std::time::Duration;

use tonic::Status;

use super::names::word;
use super::proto::{
    self, ListMailboxesRequest, ListMailboxesResponse, ListSessionsRequest, ListSessionsResponse, Mailbox, Session,
};
use super::service::Service;
use crate::domain::digest;
use crate::domain::mailbox::MailboxKey;
use crate::mailbox::{MAX_LARGEST, MAX_NAME_BYTES};
use crate::runtime::sessions::{SessionInfo, Wanted};

/// Sessions in a page: unless something is said, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// Mailboxes that are listed unless something is said.
const MAILBOXES: usize = 20;

/// How long a walk along the mailboxes is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The services in the order in which their sessions are listed.
const SERVICES: [proto::Service; 3] = [proto::Service::Vault, proto::Service::Mailbox, proto::Service::P2p];

/// Where a page begins: behind the session of that number in that part of that service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    service: usize,
    part: usize,
    after: u64,
}

impl Cursor {
    const START: Self = Self { service: 0, part: 0, after: 0 };

    fn parse(token: &str) -> Result<Self, Status> {
        if token.is_empty() {
            return Ok(Self::START);
        }
        let read = || {
            let mut numbers = token.split('.');
            let (service, part) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            let after = numbers.next()?.parse().ok()?;
            numbers.next().is_none().then_some(Self { service, part, after })
        };
        read().ok_or_else(|| Status::invalid_argument("page_token is not one that a page ended with"))
    }

    fn token(self) -> String {
        format!("{}.{}.{}", self.service, self.part, self.after)
    }
}

impl Service {
    /// One page.
    pub(super) fn sessions(&self, request: &ListSessionsRequest) -> Result<ListSessionsResponse, Status> {
        let size = match request.page_size as usize {
            0 => PAGE.0,
            size => size.min(PAGE.1),
        };
        let mut at = Cursor::parse(&request.page_token)?;
        let (mut sessions, mut last) = (Vec::new(), None);
        while let Some(service) = SERVICES.get(at.service) {
            let wanted = request.service() == proto::Service::Unspecified || request.service() == *service;
            if !wanted || at.part >= self.parts_of(*service) {
                at = Cursor { service: at.service + 1, ..Cursor::START };
                continue;
            }
            // One more than there is room for tells whether there is another page.
            let room = size - sessions.len();
            let found = self.sessions_in(*service, Wanted { part: at.part, after: at.after, limit: room + 1 });
            let is_more = found.len() > room;
            for info in found.into_iter().take(room) {
                last = Some(Cursor { after: info.number, ..at });
                sessions.push(self.shown(*service, info, request.reveal_ids));
            }
            if is_more {
                let next_page_token = last.map(Cursor::token).unwrap_or_default();
                return Ok(ListSessionsResponse { sessions, next_page_token });
            }
            at = Cursor { part: at.part + 1, after: 0, ..at };
        }
        Ok(ListSessionsResponse { sessions, next_page_token: String::new() })
    }

    /// Ends a session.
    pub(super) fn disconnect(&self, service: proto::Service, number: u64, cut: bool) -> Result<(), Status> {
        let found = match service {
            proto::Service::Vault => self.parts.vault.disconnect(number, cut),
            proto::Service::Mailbox => self.parts.mailbox.disconnect(number, cut),
            proto::Service::P2p => self.parts.p2p.as_ref().is_some_and(|p2p| p2p.disconnect(number)),
            proto::Service::Unspecified => false,
        };
        found.then_some(()).ok_or_else(|| Status::not_found("there is no session of that id at this node"))
    }

    /// The largest mailboxes.
    pub(super) async fn mailboxes(&self, request: &ListMailboxesRequest) -> ListMailboxesResponse {
        let limit = match request.limit as usize {
            0 => MAILBOXES,
            limit => limit.min(MAX_LARGEST),
        };
        let census = self.parts.mailbox.largest(request.fresh, PATIENCE).await;
        let mailbox = |(key, held): &(MailboxKey, crate::domain::mailbox::Holdings)| Mailbox {
            hash: hex::encode(key.0),
            blobs: held.blobs,
            bytes: held.bytes,
            sessions: u32::try_from(self.parts.mailbox.sessions_of(key)).unwrap_or(u32::MAX),
        };
        ListMailboxesResponse {
            mailboxes: census.largest.iter().take(limit).map(mailbox).collect(),
            counted: census.counted,
            counted_ms: census.ended.map_or(0, |ended| ended.0),
            counting: census.under_way,
        }
    }

    fn parts_of(&self, service: proto::Service) -> usize {
        match service {
            proto::Service::Vault => self.parts.vault.session_parts(),
            proto::Service::Mailbox => self.parts.mailbox.session_parts(),
            proto::Service::P2p => usize::from(self.parts.p2p.is_some()),
            proto::Service::Unspecified => 0,
        }
    }

    fn sessions_in(&self, service: proto::Service, wanted: Wanted) -> Vec<SessionInfo> {
        match service {
            proto::Service::Vault => self.parts.vault.sessions(wanted),
            proto::Service::Mailbox => self.parts.mailbox.sessions(wanted),
            proto::Service::P2p => self.parts.p2p.as_ref().map(|p2p| p2p.sessions(wanted)).unwrap_or_default(),
            proto::Service::Unspecified => Vec::new(),
        }
    }

    fn shown(&self, service: proto::Service, info: SessionInfo, reveal: bool) -> Session {
        let name = |name: String| if reveal || name.is_empty() { name } else { self.hidden(&name) };
        Session {
            id: id(service, info.number),
            service: service.into(),
            name: name(info.name),
            mailbox: name(info.mailbox),
            address: info.address.filter(|_| reveal).map_or_else(String::new, |address| address.to_string()),
            polling: info.polling,
            proven: info.proven,
            sealed: info.sealed,
            since_ms: info.since.map_or(0, |since| since.0),
            idle_ms: info.idle.map_or(0, |idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            queued_bytes: info.queued as u64,
            reserved: info.relayed.is_some_and(|relayed| relayed.reserved),
            circuits: info.relayed.map_or(0, |relayed| u32::try_from(relayed.circuits).unwrap_or(u32::MAX)),
        }
    }

    /// Tells names apart without telling them.
    fn hidden(&self, name: &str) -> String {
        hex::encode(&digest(&[&self.salt, name.as_bytes()])[..4])
    }
}

/// A session's id, as `vault-17`.
pub(super) fn id(service: proto::Service, number: u64) -> String {
    format!("{}-{number}", word(service.as_str_name(), "SERVICE_"))
}

/// Reads a session's id.
pub(super) fn parse_id(text: &str) -> Result<(u64, proto::Service), Status> {
    let read = || {
        let (service, number) = text.split_once('-')?;
        let service = SERVICES.into_iter().find(|other| word(other.as_str_name(), "SERVICE_") == service)?;
        Some((number.parse().ok()?, service))
    };
    read().ok_or_else(|| Status::invalid_argument("a session's id is like vault-17 or mailbox-5: see ListSessions"))
}

/// The mailbox of that name.
pub(super) fn mailbox_named(routing_id: &str) -> Result<MailboxKey, Status> {
    match routing_id.len() {
        1..=MAX_NAME_BYTES => Ok(MailboxKey::blobs(routing_id)),
        _ => Err(Status::invalid_argument(format!("routing_id must have 1 to {MAX_NAME_BYTES} bytes"))),
    }
}

/// The mailbox of that hash.
pub(super) fn mailbox_hashed(hash: &str) -> Result<MailboxKey, Status> {
    let mut key = [0; 32];
    let read = hex::decode_to_slice(hash, &mut key);
    read.map(|()| MailboxKey(key)).map_err(|_| Status::invalid_argument("hash must be 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_read_and_nothing_else() {
        for service in SERVICES {
            assert_eq!(parse_id(&id(service, 17)).unwrap(), (17, service));
        }
        for bad in ["", "vault", "vault-", "vault-x", "17", "unspecified-1", "SERVICE_VAULT-1"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
        let cursor = Cursor { service: 1, part: 63, after: u64::MAX };
        assert_eq!(Cursor::parse(&cursor.token()).unwrap(), cursor);
        for bad in ["1", "1.2", "1.2.x", "1.2.3.4", "-1.2.3"] {
            assert!(Cursor::parse(bad).is_err(), "{bad}");
        }
        assert!(mailbox_hashed(&"0".repeat(63)).is_err() && mailbox_hashed(&"0".repeat(64)).is_ok());
    }
}
