//! What is printed as a list.

use super::Out;
use super::args::ServiceName;
use super::print::{ago, bytes, duration, flag};
use crate::edge::admin::proto::{
    GetConfigRequest, ListBackupsRequest, ListMailboxesRequest, ListMembersRequest, ListSessionsRequest,
    ListTasksRequest, Member, Service, Session,
};

/// Sessions that are asked for at a time.
const PAGE: usize = 1000;

const SESSIONS: [&str; 12] = [
    "session", "name", "mailbox", "from", "since", "idle", "waiting", "proven", "sealed", "polls", "reserved",
    "circuits",
];

const MEMBERS: [&str; 6] = ["node", "state", "region", "version", "grpc", "gossip"];

impl Out {
    pub(super) async fn members(&mut self) -> anyhow::Result<()> {
        let members = self.client.list_members(ListMembersRequest {}).await?.into_inner().members;
        self.list(&MEMBERS, &members, member)
    }

    pub(super) async fn sessions(
        &mut self,
        service: Option<ServiceName>,
        reveal_ids: bool,
        limit: usize,
    ) -> anyhow::Result<()> {
        let service = match service {
            None => Service::Unspecified,
            Some(ServiceName::Vault) => Service::Vault,
            Some(ServiceName::Mailbox) => Service::Mailbox,
            Some(ServiceName::P2p) => Service::P2p,
        };
        let (mut sessions, mut token) = (Vec::new(), String::new());
        while sessions.len() < limit {
            let page_size = u32::try_from((limit - sessions.len()).min(PAGE))?;
            let request = ListSessionsRequest { page_size, page_token: token, service: service.into(), reveal_ids };
            let page = self.client.list_sessions(request).await?.into_inner();
            sessions.extend(page.sessions);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        self.list(&SESSIONS, &sessions, session)?;
        if !token.is_empty() && !self.json {
            println!("and more: see --limit");
        }
        Ok(())
    }

    pub(super) async fn mailboxes(&mut self, limit: u32, fresh: bool) -> anyhow::Result<()> {
        let answer = self.client.list_mailboxes(ListMailboxesRequest { limit, fresh }).await?.into_inner();
        if self.json {
            return super::print_json(&answer);
        }
        self.list(&["mailbox", "blobs", "stored", "sessions"], &answer.mailboxes, |mailbox| {
            let (blobs, stored) = (mailbox.blobs.to_string(), bytes(mailbox.bytes));
            vec![mailbox.hash.clone(), blobs, stored, mailbox.sessions.to_string()]
        })?;
        match (answer.counted_ms, answer.counting) {
            (0, _) => println!("not counted yet: ask again"),
            (at, counting) => {
                let anew = if counting { "; being counted anew" } else { "" };
                println!("of {} mailboxes that hold something, as of {} ago{anew}", answer.counted, ago(at));
            }
        }
        Ok(())
    }

    pub(super) async fn tasks(&mut self) -> anyhow::Result<()> {
        let tasks = self.client.list_tasks(ListTasksRequest {}).await?.into_inner().tasks;
        self.list(&["task", "running", "started", "since", "errors", "last error"], &tasks, |task| {
            let error = match task.last_error_ms {
                0 => String::new(),
                at => format!("{} ago: {}", ago(at), task.last_error),
            };
            let numbers = (task.running.to_string(), task.started.to_string(), task.errors.to_string());
            vec![task.name.clone(), numbers.0, numbers.1, ago(task.since_ms), numbers.2, error]
        })
    }

    pub(super) async fn config(&mut self, changed: bool) -> anyhow::Result<()> {
        let mut settings = self.client.get_config(GetConfigRequest {}).await?.into_inner().settings;
        if changed {
            settings.retain(|setting| !setting.origin.is_empty() && !setting.origin.starts_with("default "));
        }
        self.list(&["setting", "value", "from"], &settings, |setting| {
            vec![setting.name.clone(), setting.value.clone(), setting.origin.clone()]
        })
    }

    pub(super) async fn backups(&mut self) -> anyhow::Result<()> {
        let backups = self.client.list_backups(ListBackupsRequest {}).await?.into_inner().backups;
        self.list(&["backup", "made", "size", "files"], &backups, |backup| {
            let made = format!("{} ago", ago(backup.made_ms));
            vec![backup.name.clone(), made, bytes(backup.bytes), backup.files.to_string()]
        })
    }
}

/// A member's cells.
pub(super) fn member(member: &Member) -> Vec<String> {
    let state = if member.draining { "drains" } else { "serves" };
    let itself = if member.is_self { " (this one)" } else { "" };
    let name = format!("{}{itself}", member.node_id);
    let (region, version) = (member.region.clone(), member.version.clone());
    vec![name, state.to_owned(), region, version, member.grpc.clone(), member.gossip.clone()]
}

fn session(session: &Session) -> Vec<String> {
    // The mailbox of most clients has their name.
    let mailbox = if session.mailbox == session.name { String::new() } else { session.mailbox.clone() };
    let is_mailbox = session.service() == Service::Mailbox;
    let idle = if is_mailbox { duration(std::time::Duration::from_millis(session.idle_ms)) } else { String::new() };
    let is_peer = session.service() == Service::P2p;
    let flags = [session.proven, session.sealed, session.polling, session.reserved].map(flag);
    let circuits = if is_peer { session.circuits.to_string() } else { String::new() };
    let first = [session.id.clone(), session.name.clone(), mailbox, session.address.clone()];
    let waiting = bytes(session.queued_bytes);
    first.into_iter().chain([ago(session.since_ms), idle, waiting]).chain(flags).chain([circuits]).collect()
}
