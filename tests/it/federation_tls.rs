//! Clusters that prove themselves by certificates: who is let in, for which relay each may speak, and files that change.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::admin::printed;
use crate::support::cluster::{figure, figure_is};
use crate::support::regions::{federated, linked, peer_of};
use crate::support::tls::{Authority, TlsFiles};
use crate::support::{Process, TestMailbox, TestNode, free_port, id, in_time, until};

const PREFIX: &str = "RELAY_FEDERATION_TLS";

/// How a certificate names the relay that calls.
const CALLER: &str = "urn:waystation:relay:caller";

/// Where the one that is called is.
struct Called {
    node: TestNode,
    url: String,
    address: String,
}

/// A node with these files and settings.
async fn node(region: &str, address: &str, peers: &str, files: &TlsFiles, more: &[(&str, &str)]) -> TestNode {
    let files = files.settings(PREFIX);
    let files = files.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings: Vec<_> =
        federated(region, address, peers).into_iter().chain(files).chain(more.iter().copied()).collect();
    TestNode::start(&settings).await
}

async fn called(files: &TlsFiles, more: &[(&str, &str)]) -> Called {
    let port = free_port();
    let (address, url) = (format!("127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
    let more = [&[("RELAY_FEDERATION_RELAY_ID", "called")], more].concat();
    Called { node: node("us", &address, "", files, &more).await, url, address }
}

async fn caller(called: &Called, files: &TlsFiles) -> TestNode {
    node("eu", "127.0.0.1:0", &called.url, files, &[("RELAY_FEDERATION_RELAY_ID", "caller")]).await
}

fn refused(reason: &str) -> String {
    format!(r#"waystation_federation_refused_total{{reason="{reason}"}}"#)
}

/// Waits until a node has refused the other for that reason; then there is no link.
async fn is_refused(by: &TestNode, reason: &str, caller: &TestNode) {
    figure_is(by.public, &refused(reason), |count| count > 0.0).await;
    until("the caller knows that there is no link", || peer_of(caller).last_error.is_some()).await;
    assert!(!peer_of(caller).up);
}

#[tokio::test]
async fn relays_that_their_certificates_name_are_linked_and_mail_crosses() {
    let authority = Authority::new();
    let called = called(&TlsFiles::new(&authority, &["called"]), &[]).await;
    let caller = caller(&called, &TlsFiles::new(&authority, &["relay.example", CALLER])).await;
    linked(&caller, 1).await;
    assert_eq!(peer_of(&caller).relay_id, "called");
    let mut recipient = TestMailbox::plain(caller.public, &id('b')).await;
    recipient.settle().await;
    let mut sender = TestMailbox::plain(called.node.public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    recipient.expect_blob(b"x").await;
}

#[tokio::test]
async fn who_has_a_certificate_of_another_authority_is_refused_by_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let stranger = TlsFiles::with(&theirs.certify_until(&[CALLER], 2199), &ours.pem());
    let good = called(&TlsFiles::new(&ours, &["called"]), &[]).await;
    is_refused(&good.node, "unknown_authority", &caller(&good, &stranger).await).await;

    let strange = called(&TlsFiles::with(&theirs.certify_until(&["called"], 2199), &ours.pem()), &[]).await;
    let caller = caller(&strange, &TlsFiles::new(&ours, &[CALLER])).await;
    is_refused(&caller, "unknown_authority", &caller).await;
}

#[tokio::test]
async fn who_has_a_certificate_of_the_past_is_refused_by_either_side() {
    let authority = Authority::new();
    let past = |name: &str| TlsFiles::with(&authority.certify_until(&[name], 2001), &authority.pem());
    let good = called(&TlsFiles::new(&authority, &["called"]), &[]).await;
    is_refused(&good.node, "expired", &caller(&good, &past(CALLER)).await).await;

    let expired = called(&past("called"), &[]).await;
    let caller = caller(&expired, &TlsFiles::new(&authority, &[CALLER])).await;
    is_refused(&caller, "expired", &caller).await;
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let authority = Authority::new();
    let called = called(&TlsFiles::new(&authority, &["called"]), &[]).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(&called.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::try_from("called").unwrap(), tcp).await.unwrap();
    // By TLS 1.3 a client hears of it when it reads.
    stream.write_all(b"PRI * HTTP/2.0").await.ok();
    let mut all = Vec::new();
    in_time("the connection ends", stream.read_to_end(&mut all)).await.unwrap_err();
    figure_is(called.node.public, &refused("no_certificate"), |count| count == 1.0).await;
    // Nor does anybody get in without TLS.
    let mut plain = TcpStream::connect(&called.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    figure_is(called.node.public, &refused("tls"), |count| count == 1.0).await;
}

#[tokio::test]
async fn a_relay_id_that_the_certificate_does_not_name_is_refused_by_either_side() {
    let authority = Authority::new();
    let other = TlsFiles::new(&authority, &["caller", "urn:waystation:relay:another"]);
    let good = called(&TlsFiles::new(&authority, &["called"]), &[]).await;
    is_refused(&good.node, "not_named", &caller(&good, &other).await).await;

    let posing = called(&other, &[]).await;
    let caller = caller(&posing, &TlsFiles::new(&authority, &[CALLER])).await;
    is_refused(&caller, "not_named", &caller).await;
}

#[tokio::test]
async fn a_relay_that_no_certificate_names_keeps_the_key_that_it_was_first_seen_with() {
    let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = TlsFiles::new(&authority, &["called"]);
    let durable = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", data.path().to_str().unwrap())];
    let first = called(&files, &durable).await;
    let known = TlsFiles::new(&authority, &["relay.example"]);
    let honest = caller(&first, &known).await;
    linked(&honest, 1).await;
    honest.stop().await;

    let other = authority.certify_until(&["relay.example"], 2199);
    let impostor = caller(&first, &TlsFiles::with(&other, &authority.pem())).await;
    is_refused(&first.node, "other_key", &impostor).await;
    assert!(peer_of(&impostor).last_error.unwrap().contains("RELAY_FEDERATION_PINS"), "{:?}", peer_of(&impostor));
    first.node.stop().await;

    // It is still known after a restart, and the operator may say that another key is right.
    let again = called(&files, &durable).await;
    is_refused(&again.node, "other_key", &caller(&again, &TlsFiles::with(&other, &authority.pem())).await).await;
    linked(&caller(&again, &known).await, 1).await;
    again.node.stop().await;
    let key = rcgen::KeyPair::from_pem(&other.1).unwrap();
    let pin = format!("caller={}", hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key))));
    let listing = called(&files, &[&durable[..], &[("RELAY_FEDERATION_PINS", &pin)]].concat()).await;
    is_refused(&listing.node, "other_key", &caller(&listing, &known).await).await;
    linked(&caller(&listing, &TlsFiles::with(&other, &authority.pem())).await, 1).await;
    let text = printed(listing.node.node().admin, &["config", "--changed"]).await;
    assert!(text.contains(&pin) && !text.contains("PRIVATE KEY"), "{text}");
}

/// The settings of a node that is called at an address of its own, and its URL.
fn called_at(port: u16, files: &TlsFiles) -> (Vec<(String, String)>, String) {
    let address = format!("127.0.0.1:{port}");
    let settings = federated("us", &address, "").into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = settings.chain(files.settings(PREFIX)).collect();
    (settings, format!("https://{address}"))
}

#[tokio::test]
async fn what_one_node_has_met_all_nodes_of_its_cluster_know() {
    let authority = Authority::new();
    let files = TlsFiles::new(&authority, &["called"]);
    let mut nodes: Vec<Called> = Vec::new();
    for _ in 0..3 {
        let (settings, url) = called_at(free_port(), &files);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let settings = [&settings[..], &[("RELAY_FEDERATION_RELAY_ID", "called")]].concat();
        let node = match nodes.first() {
            None => TestNode::start(&settings).await,
            Some(first) => first.node.join(&settings).await,
        };
        nodes.push(Called { node, address: url.replace("https://", ""), url });
    }
    for called in &nodes {
        called.node.view_is(3).await;
        called.node.links_are(2).await;
    }
    let known = TlsFiles::new(&authority, &["relay.example"]);
    let honest = caller(&nodes[0], &known).await;
    figure_is(nodes[0].node.public, "waystation_federation_callers", |callers| callers == 1.0).await;
    honest.stop().await;

    // Another key is not taken for that relay anywhere, nor that key for another relay.
    let impostor = TlsFiles::new(&authority, &["relay.example"]);
    let renamed = [("RELAY_FEDERATION_RELAY_ID", "another")];
    for called in &nodes {
        is_refused(&called.node, "other_key", &caller(called, &impostor).await).await;
        is_refused(&called.node, "other_relay", &node("eu", "127.0.0.1:0", &called.url, &known, &renamed).await).await;
    }
    // So it is once the node is gone that had met it.
    let last = nodes.pop().unwrap();
    nodes.remove(0).node.kill();
    last.node.view_is(2).await;
    is_refused(&last.node, "other_key", &caller(&last, &impostor).await).await;
    let again = caller(&last, &known).await;
    figure_is(last.node.public, "waystation_federation_callers", |callers| callers == 1.0).await;
    drop(again);
}

#[tokio::test]
async fn a_key_speaks_for_a_second_relay_only_if_that_is_listed() {
    let authority = Authority::new();
    let (certificate, key) = authority.certify_until(&["relay.example"], 2199);
    let files = TlsFiles::with(&(certificate, key.clone()), &authority.pem());
    let digest = {
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)))
    };
    let pins = format!("second={digest}");
    let called = called(&TlsFiles::new(&authority, &["called"]), &[("RELAY_FEDERATION_PINS", &pins)]).await;
    linked(&node_as("first", &called, &files).await, 1).await;
    let third = node_as("third", &called, &files).await;
    is_refused(&called.node, "other_relay", &third).await;
    assert!(peer_of(&third).last_error.unwrap().contains("RELAY_FEDERATION_PINS"), "{:?}", peer_of(&third));
    linked(&node_as("second", &called, &files).await, 1).await;
}

async fn node_as(relay: &str, called: &Called, files: &TlsFiles) -> TestNode {
    node("eu", "127.0.0.1:0", &called.url, files, &[("RELAY_FEDERATION_RELAY_ID", relay)]).await
}

#[tokio::test]
async fn files_that_change_are_in_force_for_new_links_and_broken_ones_never() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = TlsFiles::new(&ours, &["called"]);
    let called = called(&files, &[]).await;
    let theirs_files = TlsFiles::with(&theirs.certify_until(&[CALLER], 2199), &ours.pem());
    let caller = caller(&called, &theirs_files).await;
    is_refused(&called.node, "unknown_authority", &caller).await;

    files.write("ca.pem", &(ours.pem() + &theirs.pem()));
    linked(&caller, 1).await;
    let reloads = |outcome: &str| {
        format!(r#"waystation_reloads_total{{files="certificates of the federation",outcome="{outcome}"}}"#)
    };
    assert_eq!(figure(called.node.public, &reloads("taken")).await, 1.0);
    files.write("key.pem", &theirs.certify_until(&["called"], 2199).1);
    figure_is(called.node.public, &reloads("broken"), |count| count == 1.0).await;
    assert!(peer_of(&caller).up, "what was before stays in force");
    let tasks = printed(called.node.node().admin, &["tasks"]).await;
    assert!(tasks.contains("cert.pem"), "{tasks}");
}

#[tokio::test]
async fn whose_certificate_is_not_trusted_any_more_has_no_link_until_it_has_another() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let both = ours.pem() + &theirs.pem();
    let files = TlsFiles::with(&ours.certify_until(&["called"], 2199), &both);
    let called = called(&files, &[]).await;
    let of_theirs = TlsFiles::with(&theirs.certify_until(&[CALLER], 2199), &both);
    let caller = caller(&called, &of_theirs).await;
    linked(&caller, 1).await;
    files.write("ca.pem", &ours.pem());
    is_refused(&called.node, "lapsed", &caller).await;
    of_theirs.write_certified(&ours.certify_until(&[CALLER], 2199));
    linked(&caller, 1).await;
}

#[tokio::test]
async fn who_does_without_proof_is_warned() {
    let settings = [
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_FEDERATION_ADDR", "127.0.0.1:0"),
        ("RELAY_FEDERATION_INSECURE", "true"),
        ("RELAY_LOG_LEVEL", "warn"),
    ];
    let mut process = Process::start_with_log(&settings).await;
    while !process.log_line().await.expect("there is a warning").contains("RELAY_FEDERATION_INSECURE=true") {}
}

#[tokio::test]
async fn what_clusters_prove_themselves_with_is_not_shown() {
    let secret = "a secret that nobody is to see";
    let settings = [("RELAY_FEDERATION_ENABLED", "true"), ("RELAY_FEDERATION_SECRET", secret)];
    let node = TestNode::start(&[&settings[..], &[("RELAY_FEDERATION_ADDR", "127.0.0.1:0")]].concat()).await;
    for arguments in [&["config"][..], &["config", "--json"]] {
        let text = printed(node.node().admin, arguments).await;
        assert!(text.contains("RELAY_FEDERATION_SECRET") && !text.contains(secret), "{text}");
    }
}
