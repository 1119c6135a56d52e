//! `waystation admin` as an operator meets it.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::admin::{free_address, printed, run};
use crate::support::{Process, TestMailbox, TestNode, TestVault, id, in_time};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn tables_are_for_people_and_json_for_programs() {
    let nodes = TestNode::cluster(2, &[]).await;
    let address = nodes[0].node().admin;
    let _vault = TestVault::registered(nodes[0].public, "vault_demo01", 7).await;
    let mut mailbox = TestMailbox::plain(nodes[0].public, &id('a')).await;
    mailbox.store("m", &id('b'), b"blob").await;

    let status = printed(address, &["status"]).await;
    assert!(status.contains("2 in service") && status.contains("1 blobs wait"), "{status}");
    let status = lines(&printed(address, &["status", "--json"]).await).remove(0);
    assert_eq!((&status["node"]["phase"], &status["cluster"]["serving"]), (&"serving".into(), &2.into()));

    let members = printed(address, &["members"]).await;
    assert!(members.starts_with("NODE") && members.lines().count() == 3 && members.contains("(this one)"), "{members}");
    assert_eq!(lines(&printed(address, &["--json", "members"]).await).len(), 2);

    let sessions = printed(address, &["sessions", "--reveal-ids"]).await;
    assert!(sessions.contains("vault_demo01") && sessions.contains(&id('a')), "{sessions}");
    let sessions = lines(&printed(address, &["sessions", "--json", "--service", "mailbox"]).await);
    assert_eq!((sessions.len(), &sessions[0]["service"]), (1, &"mailbox".into()));
    assert_eq!(sessions[0]["name"].as_str().unwrap().len(), 8);
    assert!(printed(address, &["sessions", "--limit", "1"]).await.contains("and more"));
    let session = sessions[0]["id"].as_str().unwrap();
    assert_eq!(printed(address, &["disconnect", session]).await, "disconnected\n");
    mailbox.ended().await;

    let mailboxes = printed(address, &["mailboxes", "--fresh"]).await;
    assert!(mailboxes.contains("of 1 mailboxes"), "{mailboxes}");
    assert_eq!(printed(address, &["purge", "--routing-id", &id('b')]).await, "deleted 1 blobs\n");
    assert!(printed(address, &["tasks"]).await.contains("membership"));
    let changed = printed(address, &["config", "--changed"]).await;
    assert!(changed.contains("environment RELAY_CLUSTER_ID") && !changed.contains("default "), "{changed}");
    assert_eq!(printed(address, &["drain-status"]).await, "in service\n");
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_the_exit_code() {
    let node = TestNode::start(&[]).await;
    let code = async |arguments: &[&str]| run(node.node().admin, arguments).await.status.code();
    assert_eq!(code(&["status"]).await, Some(0));
    assert_eq!(code(&["disconnect", "vault-1"]).await, Some(1));
    assert_eq!(code(&["undrain"]).await, Some(1));
    assert_eq!(code(&["log", "loud"]).await, Some(1));
    for wrong in [&["nonsense"][..], &[], &["purge"], &["purge", "--hash", "1", "--routing-id", "2"]] {
        assert_eq!(code(wrong).await, Some(64), "{wrong:?}");
    }
    let nobody = free_address();
    let output = run(nobody, &["status"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains(&nobody.to_string()), "{told}");
}

#[tokio::test]
async fn who_watches_is_told_as_it_happens() {
    let nodes = TestNode::cluster(2, &[]).await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_waystation"));
    command.args(["admin", "members", "--watch", "--addr", &nodes[0].node().admin.to_string()]).kill_on_drop(true);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || in_time("a line", printed.next_line()).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(line().await.starts_with("present "));
    }
    let third = nodes[0].join(&[]).await;
    let name = third.node().cluster.me.node.to_string();
    let joined = line().await;
    assert!(joined.starts_with("joined ") && joined.contains(&name), "{joined}");
    third.kill();
    let left = line().await;
    assert!(left.starts_with("left ") && left.contains(&name), "{left}");
}

#[tokio::test]
async fn the_log_filter_is_another_at_once_and_the_change_is_logged_with_who_made_it() {
    let address = free_address();
    let settings = [("RELAY_ADMIN_ADDR", address.to_string()), ("RELAY_LOG_LEVEL", "error".to_owned())];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut process = Process::start_with_log(&settings).await;
    assert_eq!(printed(address, &["log"]).await, "error\n");
    // Not logged: the filter leaves it out.
    printed(address, &["purge", "--routing-id", "quiet"]).await;
    assert_eq!(printed(address, &["log", "info"]).await, "info\n");
    let purge = printed(address, &["purge", "--routing-id", "loud"]).await;
    assert_eq!(purge, "deleted 0 blobs\n");
    let mut logged = Vec::new();
    while !logged.iter().any(|line: &String| line.contains("PurgeMailbox")) {
        logged.push(process.log_line().await.expect("the call is logged"));
    }
    let purges: Vec<_> = logged.iter().filter(|line| line.contains("PurgeMailbox")).collect();
    assert!(purges.len() == 1 && purges[0].contains("127.0.0.1:"), "{logged:?}");
    let hash = hex::encode(waystation::domain::mailbox::MailboxKey::blobs("loud").0);
    assert!(purges[0].contains(&hash) && !purges[0].contains("loud"), "{}", purges[0]);
    let config = lines(&printed(address, &["config", "--json"]).await);
    let level = config.iter().find(|setting| setting["name"] == "RELAY_LOG_LEVEL").unwrap();
    assert_eq!((&level["value"], &level["origin"]), (&"info".into(), &"SetLogFilter".into()));
}
