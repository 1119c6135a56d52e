//! Backups: made while the node serves, checked, and good to start a node on.

use std::path::{Path, PathBuf};

use tonic::{Code, Status, Streaming};
use waystation::edge::admin::proto::{
    BackupProgress, BackupRequest, ListBackupsRequest, VerifyBackupRequest, VerifyProgress, VerifyReport,
};

use crate::support::admin::{admin, printed, run};
use crate::support::{TestMailbox, TestNode, TestVault, get, id, in_time};

const VAULT: &str = "vault_demo01";

/// A node that keeps what it holds, in a folder of its own.
async fn durable(folder: &Path) -> TestNode {
    TestNode::start(&[("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", folder.to_str().unwrap())]).await
}

/// Makes a backup; the last message about it.
async fn back_up(node: &TestNode, name: &str) -> Result<BackupProgress, Status> {
    let request = BackupRequest { name: name.to_owned() };
    let mut progress: Streaming<BackupProgress> = admin(node).await.backup(request).await?.into_inner();
    let mut last = BackupProgress::default();
    while let Some(told) = in_time("progress", progress.message()).await? {
        assert!(last.done.is_none(), "nothing comes after the end");
        last = told;
    }
    Ok(last)
}

async fn verify(node: &TestNode, name: &str) -> Result<VerifyReport, Status> {
    let request = VerifyBackupRequest { name: name.to_owned() };
    let mut progress: Streaming<VerifyProgress> = admin(node).await.verify_backup(request).await?.into_inner();
    let mut last = VerifyProgress::default();
    while let Some(told) = in_time("progress", progress.message()).await? {
        assert!(told.entries >= last.entries && told.report.is_none() <= last.report.is_none());
        last = told;
    }
    Ok(last.report.unwrap())
}

/// The files of a backup's store whose names end so.
fn files(backup: &Path, suffix: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(backup.join("store")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
}

/// Flips a byte in the middle of a file, of the backup alone: the store has a link to the same file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_node_starts_on_a_backup_and_has_what_there_was_when_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let node = durable(folder.path()).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("small", &id('b'), b"small").await;
    sender.store("large", &id('b'), &[7; 100_000]).await;
    let vault = TestVault::registered(node.public, VAULT, 7).await;
    let made = back_up(&node, "first").await.unwrap();
    let done = made.done.unwrap();
    assert_eq!((done.name.as_str(), made.bytes), ("first", done.bytes));
    assert!(done.bytes > 100_000 && done.files > 3 && done.made_ms > 0, "{done:?}");
    sender.store("later", &id('b'), b"later").await;

    let report = verify(&node, "first").await.unwrap();
    assert!(report.sound && report.damage.is_empty(), "{report:?}");
    assert_eq!((report.blobs, report.mailboxes), (2, 1));
    assert!(report.records > 0 && report.bytes > 100_000, "{report:?}");

    let backup = folder.path().join("backups/first");
    assert_eq!(made.path, backup.to_str().unwrap());
    let key = get(node.public, "/pubkey").await.text;
    let restored = durable(&backup).await;
    let mut reader = TestMailbox::plain(restored.public, &id('b')).await;
    reader.expect_blob(b"small").await;
    reader.expect_blob(&[7; 100_000]).await;
    reader.settle().await;
    assert_eq!(get(restored.public, "/pubkey").await.text, key, "clients know it by its key");
    // The name belongs to its key there too.
    let mut stranger = TestVault::connect(restored.public).await;
    stranger.send_frame("register", crate::support::registration(VAULT, 8)).await;
    assert_eq!(stranger.expect("error").await["code"], "RELAY_UNAUTHORIZED");
    drop((vault, node));
}

#[tokio::test]
async fn damage_is_named_and_the_backup_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let node = durable(folder.path()).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for n in 0..20 {
        sender.store(&n.to_string(), &id('b'), &[7; 3000]).await;
    }
    for (name, suffix, told) in [("sorted", ".sst", ".sst"), ("bodies", ".blob", "blobs, behind")] {
        back_up(&node, name).await.unwrap();
        let backup = folder.path().join("backups").join(name);
        let damaged = files(&backup, suffix);
        damaged.iter().for_each(|file| damage(file));
        let before: Vec<_> = damaged.iter().map(|file| std::fs::read(file).unwrap()).collect();
        let report = verify(&node, name).await.unwrap();
        assert!(!report.sound, "{name}");
        assert!(report.damage.iter().any(|line| line.contains(told)), "{:?}", report.damage);
        let after: Vec<_> = damaged.iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert_eq!(before, after);

        let output = run(node.node().admin, &["verify", name]).await;
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(shown.contains("is damaged") && shown.contains(told), "{shown}");
    }
    sender.store("after", &id('b'), b"the store itself is well").await;
}

#[tokio::test]
async fn what_cannot_be_backed_up_or_verified_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = durable(folder.path()).await;
    for bad in ["", "..", "../outside", "a/b", "/tmp/outside", ".hidden", "two words"] {
        assert_eq!(back_up(&node, bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
        assert_eq!(verify(&node, bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
    back_up(&node, "once").await.unwrap();
    assert_eq!(back_up(&node, "once").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(verify(&node, "missing").await.unwrap_err().code(), Code::NotFound);
    let listed = admin(&node).await.list_backups(ListBackupsRequest {}).await.unwrap().into_inner().backups;
    assert_eq!(listed.iter().map(|backup| backup.name.as_str()).collect::<Vec<_>>(), ["once"]);
    let hidden = std::fs::read_dir(folder.path().join("backups")).unwrap();
    assert_eq!(hidden.count(), 1, "nothing is left of what was refused");

    let forgetful = TestNode::start(&[]).await;
    assert_eq!(back_up(&forgetful, "x").await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn backups_may_be_elsewhere_and_the_command_makes_lists_and_checks_them() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = [
        ("RELAY_STORAGE_BACKEND", "rocksdb"),
        ("RELAY_DATA_DIR", folder.path().to_str().unwrap()),
        ("RELAY_BACKUP_DIR", elsewhere.path().to_str().unwrap()),
    ];
    let node = TestNode::start(&settings).await;
    let address = node.node().admin;
    let made = printed(address, &["backup", "monday"]).await;
    assert!(made.starts_with(&format!("{}: ", elsewhere.path().join("monday").display())), "{made}");
    assert!(elsewhere.path().join("monday/store/CURRENT").exists());
    let listed = printed(address, &["backups"]).await;
    assert!(listed.lines().nth(1).unwrap().starts_with("monday "), "{listed}");
    let sound = printed(address, &["verify", "monday"]).await;
    assert!(sound.starts_with("monday is sound: ") && sound.contains("0 blobs in 0 mailboxes"), "{sound}");
    let json = printed(address, &["verify", "monday", "--json"]).await;
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["report"]["sound"], true);
}
