//! What is watched: members that come and go, a drain, a backup that grows, one that is read.

use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use super::print::{ago, bytes, printable};
use super::{Out, lists, print_json};
use crate::domain::clock::Millis;
use crate::edge::admin::names::word;
use crate::edge::admin::proto::{
    BackupRequest, DrainStatusRequest, DrainStatusResponse, OffloadNowRequest, Phase, VerifyBackupRequest,
    WatchDrainRequest, WatchMembersRequest,
};
use crate::runtime::time;

/// How often a bar moves although nothing is heard.
const TICK: Duration = Duration::from_millis(200);

impl Out {
    pub(super) async fn watch_members(&mut self) -> anyhow::Result<()> {
        let mut events = self.client.watch_members(WatchMembersRequest {}).await?.into_inner();
        while let Some(event) = events.message().await? {
            if self.json {
                print_json(&event)?;
                continue;
            }
            let change = word(event.change().as_str_name(), "MEMBER_CHANGE_");
            let member = event.member.unwrap_or_default();
            println!("{change:<8} {}", printable(&lists::member(&member).join("  ")));
        }
        Ok(())
    }

    pub(super) async fn drain_status(&mut self) -> anyhow::Result<()> {
        let status = self.client.drain_status(DrainStatusRequest {}).await?.into_inner();
        self.say(&status, || told(&status))
    }

    pub(super) async fn watch_drain(&mut self) -> anyhow::Result<()> {
        let mut statuses = self.client.watch_drain(WatchDrainRequest {}).await?.into_inner();
        let bar = self.bar("{spinner} {msg}");
        let (mut last, mut began, mut stay) = (Phase::Unspecified, false, 0);
        loop {
            let status = match statuses.message().await {
                Ok(Some(status)) => status,
                // The node goes away with its last connections: it has left if that is what it was about to do.
                _ if matches!(last, Phase::Closing | Phase::Left) => break,
                Ok(None) => bail!("the node ended the stream"),
                Err(error) => return Err(error.into()),
            };
            last = status.phase();
            stay = if status.evacuates { status.blobs_left } else { 0 };
            began |= last != Phase::Serving;
            if self.json {
                print_json(&status)?;
            }
            bar.set_message(told(&status));
            if last == Phase::Left || (last == Phase::Serving && began) {
                break;
            }
        }
        bar.finish_and_clear();
        if last == Phase::Serving {
            bail!("the node has been put back into service");
        }
        if !self.json {
            println!("the node has left service");
            if stay > 0 {
                println!("{stay} blobs stay on its disk: nobody takes them");
            }
        }
        Ok(())
    }

    pub(super) async fn backup(&mut self, name: String) -> anyhow::Result<()> {
        let mut progress = self.client.backup(BackupRequest { name }).await?.into_inner();
        let bar = self.bar("{bar:40} {binary_bytes} of {binary_total_bytes} {msg}");
        bar.set_message("being written");
        while let Some(told) = progress.message().await? {
            if self.json {
                print_json(&told)?;
            }
            bar.set_length(told.bytes_total.max(told.bytes));
            bar.set_position(told.bytes);
            let Some(done) = told.done else { continue };
            bar.finish_and_clear();
            if !self.json {
                println!("{}: {} in {} files", printable(&told.path), bytes(done.bytes), done.files);
            }
            return Ok(());
        }
        bail!("the node ended before the backup was made")
    }

    pub(super) async fn verify(&mut self, name: String) -> anyhow::Result<()> {
        let mut progress = self.client.verify_backup(VerifyBackupRequest { name: name.clone() }).await?.into_inner();
        let bar = self.bar("{bar:40} {human_pos} of {human_len} entries, {msg}");
        while let Some(told) = progress.message().await? {
            if self.json {
                print_json(&told)?;
            }
            bar.set_length(told.entries_total);
            bar.set_position(told.entries);
            bar.set_message(bytes(told.bytes));
            let Some(report) = told.report else { continue };
            bar.finish_and_clear();
            if !report.sound {
                let damage: Vec<_> = report.damage.iter().map(|line| format!("\n  {}", printable(line))).collect();
                bail!("{name} is damaged:{}", damage.concat());
            }
            if !self.json {
                let what = (report.records, report.blobs, report.mailboxes, bytes(report.bytes));
                println!("{name} is sound: {} records, {} blobs in {} mailboxes, {}", what.0, what.1, what.2, what.3);
            }
            return Ok(());
        }
        bail!("the node ended before the backup was read")
    }

    pub(super) async fn offload(&mut self, request: OffloadNowRequest) -> anyhow::Result<()> {
        let dry_run = request.dry_run;
        let mut progress = self.client.offload_now(request).await?.into_inner();
        let bar = self.bar("{bar:40} {binary_bytes} of {binary_total_bytes} {msg}");
        while let Some(told) = progress.message().await? {
            if self.json {
                print_json(&told)?;
            }
            bar.set_length(told.bytes + told.bytes_left);
            bar.set_position(told.bytes);
            bar.set_message(format!("{} blobs", told.blobs));
            if !told.done {
                continue;
            }
            bar.finish_and_clear();
            if self.json {
                return Ok(());
            }
            let verb = if dry_run { "would move" } else { "moved" };
            for to in &told.to {
                println!("{verb} {} blobs, {}, to {}", to.blobs, bytes(to.bytes), printable(&to.peer));
            }
            if told.to.is_empty() {
                println!("nothing {}", if dry_run { "would move" } else { "has moved" });
            }
            if told.bytes_left > 0 {
                println!("{} more should, and nobody takes them", bytes(told.bytes_left));
            }
            return Ok(());
        }
        bail!("the node ended before it was done")
    }

    /// A bar on the terminal; none elsewhere, and none beside JSON.
    fn bar(&self, template: &str) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(0);
        // The template is one of ours; with a broken one the bar has the library's form.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        bar
    }
}

/// How far a node has left service, in words.
pub(super) fn told(status: &DrainStatusResponse) -> String {
    let waiting = || {
        let (open, requests) = (status.websockets, status.pending_requests);
        let left = Millis(status.deadline_ms).since(time::now()).as_secs();
        let blobs = if status.evacuates { format!(", {} blobs", status.blobs_left) } else { String::new() };
        format!("{open} WebSockets and {requests} requests{blobs}; {left} s left")
    };
    match status.phase() {
        Phase::Serving => "in service".to_owned(),
        Phase::Draining => {
            let undo = if status.may_return { "may return" } else { "is final" };
            format!("draining for {} by {}, {undo}: {}", ago(status.since_ms), status.by, waiting())
        }
        phase => word(phase.as_str_name(), "PHASE_"),
    }
}
