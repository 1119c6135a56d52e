//! Every call of `waystation.admin.v1`: who makes it is noted, and the answer comes from the files beside this one.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::proto::admin_server::Admin;
use super::proto::purge_mailbox_request::Mailbox as Purged;
use super::proto::{
    AddPeerRequest, AddPeerResponse, BackupProgress, BackupRequest, ClusterStatusRequest, ClusterStatusResponse,
    DisconnectSessionRequest, DisconnectSessionResponse, DrainRequest, DrainResponse, DrainStatusRequest,
    DrainStatusResponse, GetConfigRequest, GetConfigResponse, GetLogFilterRequest, ListBackupsRequest,
    ListBackupsResponse, ListMailboxesRequest, ListMailboxesResponse, ListMembersRequest, ListMembersResponse,
    ListPeersRequest, ListPeersResponse, ListSessionsRequest, ListSessionsResponse, ListTasksRequest,
    ListTasksResponse, LogFilter, MemberEvent, NodeStatusRequest, NodeStatusResponse, OffloadNowRequest,
    OffloadProgress, PeerEvent, PurgeMailboxRequest, PurgeMailboxResponse, RemovePeerRequest, RemovePeerResponse,
    SetLogFilterRequest, UndrainRequest, UndrainResponse, VerifyBackupRequest, VerifyProgress, WatchDrainRequest,
    WatchMembersRequest, WatchPeersRequest,
};
use super::{AdminParts, Answers, until_stopped};

/// What answers operators; what is in the parts is shared with the rest of the node.
pub(super) struct Service {
    pub(super) parts: AdminParts,
    /// What names are hidden behind: another one in each process.
    pub(super) salt: [u8; 16],
    /// Held by whoever reads or writes a whole store.
    pub(super) heavy: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(parts: AdminParts) -> Self {
        Self { parts, salt: rand::random(), heavy: Arc::new(Semaphore::new(1)) }
    }

    fn asks<T>(&self, call: &'static str, request: &Request<T>) -> Result<(), Status> {
        Caller::of(request, &self.parts.metrics, call, None).map(drop)
    }

    fn changes<T>(&self, call: &'static str, request: &Request<T>, what: &str) -> Result<Caller, Status> {
        Caller::of(request, &self.parts.metrics, call, Some(what))
    }

    fn streamed<T: Send + 'static>(
        &self,
        stream: impl futures::Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answers<T>> {
        Response::new(until_stopped(stream, self.parts.supervisor.token()))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    type WatchMembersStream = Answers<MemberEvent>;
    type WatchPeersStream = Answers<PeerEvent>;
    type WatchDrainStream = Answers<DrainStatusResponse>;
    type BackupStream = Answers<BackupProgress>;
    type VerifyBackupStream = Answers<VerifyProgress>;
    type OffloadNowStream = Answers<OffloadProgress>;

    async fn node_status(&self, request: Request<NodeStatusRequest>) -> Result<Response<NodeStatusResponse>, Status> {
        self.asks("NodeStatus", &request)?;
        Ok(Response::new(self.node().await))
    }

    async fn cluster_status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        self.asks("ClusterStatus", &request)?;
        Ok(Response::new(self.cluster()))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        self.asks("ListMembers", &request)?;
        Ok(Response::new(ListMembersResponse { members: self.members() }))
    }

    async fn watch_members(
        &self,
        request: Request<WatchMembersRequest>,
    ) -> Result<Response<Self::WatchMembersStream>, Status> {
        self.asks("WatchMembers", &request)?;
        Ok(self.streamed(self.member_events()))
    }

    async fn list_peers(&self, request: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        self.asks("ListPeers", &request)?;
        Ok(Response::new(ListPeersResponse { peers: self.peers()? }))
    }

    async fn watch_peers(
        &self,
        request: Request<WatchPeersRequest>,
    ) -> Result<Response<Self::WatchPeersStream>, Status> {
        self.asks("WatchPeers", &request)?;
        Ok(self.streamed(self.peer_events()?))
    }

    async fn add_peer(&self, request: Request<AddPeerRequest>) -> Result<Response<AddPeerResponse>, Status> {
        let url = super::peers::checked(&request.get_ref().url)?;
        self.changes("AddPeer", &request, &url.to_string())?;
        self.add(&url)?;
        Ok(Response::new(AddPeerResponse {}))
    }

    async fn remove_peer(&self, request: Request<RemovePeerRequest>) -> Result<Response<RemovePeerResponse>, Status> {
        let url = super::peers::checked(&request.get_ref().url)?;
        self.changes("RemovePeer", &request, &url.to_string())?;
        self.remove(&url).await?;
        Ok(Response::new(RemovePeerResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        self.asks("ListSessions", &request)?;
        self.sessions(request.get_ref()).map(Response::new)
    }

    async fn disconnect_session(
        &self,
        request: Request<DisconnectSessionRequest>,
    ) -> Result<Response<DisconnectSessionResponse>, Status> {
        let (number, service) = super::sessions::parse_id(&request.get_ref().id)?;
        self.changes("DisconnectSession", &request, &super::sessions::id(service, number))?;
        self.disconnect(service, number, request.get_ref().cut)?;
        Ok(Response::new(DisconnectSessionResponse {}))
    }

    async fn list_mailboxes(
        &self,
        request: Request<ListMailboxesRequest>,
    ) -> Result<Response<ListMailboxesResponse>, Status> {
        self.asks("ListMailboxes", &request)?;
        Ok(Response::new(self.mailboxes(request.get_ref()).await))
    }

    async fn purge_mailbox(
        &self,
        request: Request<PurgeMailboxRequest>,
    ) -> Result<Response<PurgeMailboxResponse>, Status> {
        let mailbox = match &request.get_ref().mailbox {
            Some(Purged::RoutingId(id)) => super::sessions::mailbox_named(id)?,
            Some(Purged::Hash(hash)) => super::sessions::mailbox_hashed(hash)?,
            None => return Err(Status::invalid_argument("name a mailbox, by its routing_id or its hash")),
        };
        let hash = hex::encode(mailbox.0);
        self.changes("PurgeMailbox", &request, &hash)?;
        let purged = self.parts.mailbox.purge_everywhere(mailbox).await;
        let deleted = purged.map_err(|error| Status::aborted(error.to_string()))?;
        Ok(Response::new(PurgeMailboxResponse { deleted, hash }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let within = self.drain_time(request.get_ref());
        let evacuate = request.get_ref().evacuate;
        let what = if evacuate { ", and empties the node" } else { "" };
        let caller = self.changes("Drain", &request, &format!("within {} s{what}", within.as_secs()))?;
        Ok(Response::new(DrainResponse { status: Some(self.begin_drain(&caller, within, evacuate)?) }))
    }

    async fn undrain(&self, request: Request<UndrainRequest>) -> Result<Response<UndrainResponse>, Status> {
        self.changes("Undrain", &request, "")?;
        Ok(Response::new(UndrainResponse { status: Some(self.undo_drain().await?) }))
    }

    async fn drain_status(
        &self,
        request: Request<DrainStatusRequest>,
    ) -> Result<Response<DrainStatusResponse>, Status> {
        self.asks("DrainStatus", &request)?;
        Ok(Response::new(self.drain_now()))
    }

    async fn watch_drain(
        &self,
        request: Request<WatchDrainRequest>,
    ) -> Result<Response<Self::WatchDrainStream>, Status> {
        self.asks("WatchDrain", &request)?;
        Ok(self.streamed(self.drain_changes()))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        self.asks("ListTasks", &request)?;
        Ok(Response::new(ListTasksResponse { tasks: self.tasks() }))
    }

    async fn get_log_filter(&self, request: Request<GetLogFilterRequest>) -> Result<Response<LogFilter>, Status> {
        self.asks("GetLogFilter", &request)?;
        self.log_filter().map(Response::new)
    }

    async fn set_log_filter(&self, request: Request<SetLogFilterRequest>) -> Result<Response<LogFilter>, Status> {
        let filter = super::settings::checked(&request.get_ref().filter)?;
        self.changes("SetLogFilter", &request, filter)?;
        self.set_filter(filter)?;
        // Once more, for those whom the first line did not reach because of the old filter.
        tracing::warn!(filter, "the log filter is another from here on");
        self.log_filter().map(Response::new)
    }

    async fn get_config(&self, request: Request<GetConfigRequest>) -> Result<Response<GetConfigResponse>, Status> {
        self.asks("GetConfig", &request)?;
        Ok(Response::new(GetConfigResponse { settings: self.settings() }))
    }

    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Result<Response<ListBackupsResponse>, Status> {
        self.asks("ListBackups", &request)?;
        Ok(Response::new(ListBackupsResponse { backups: self.backups().await? }))
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let name = super::backups::checked(&request.get_ref().name)?;
        self.changes("Backup", &request, name)?;
        let progress = self.back_up(name)?;
        Ok(self.streamed(progress))
    }

    async fn verify_backup(
        &self,
        request: Request<VerifyBackupRequest>,
    ) -> Result<Response<Self::VerifyBackupStream>, Status> {
        let name = super::backups::checked(&request.get_ref().name)?;
        self.asks("VerifyBackup", &request)?;
        let progress = self.verify(name)?;
        Ok(self.streamed(progress))
    }

    async fn offload_now(
        &self,
        request: Request<OffloadNowRequest>,
    ) -> Result<Response<Self::OffloadNowStream>, Status> {
        let down_to = self.offload_goal(request.get_ref())?;
        if request.get_ref().dry_run {
            self.asks("OffloadNow", &request)?;
        } else {
            self.changes("OffloadNow", &request, &format!("down to {down_to}"))?;
        }
        Ok(self.streamed(self.offload(down_to, request.get_ref().dry_run)))
    }
}
