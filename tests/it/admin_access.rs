//! Who may use the port for operators, and what it tells whoever asks what it is.

use std::net::SocketAddr;

use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use waystation::edge::admin::proto::admin_client::AdminClient;
use waystation::edge::admin::proto::{DrainRequest, GetLogFilterRequest, NodeStatusRequest, SetLogFilterRequest};

use crate::support::admin::{admin, channel, free_address, run};
use crate::support::cluster::figure_is;
use crate::support::tls::{Authority, TlsFiles};
use crate::support::{Process, TestNode, in_time};

const TOKEN: &str = "0123456789abcdef-token";

fn token_file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap().to_owned();
    (dir, name)
}

async fn status_with(address: SocketAddr, shown: Option<&str>) -> Code {
    let mut request = Request::new(NodeStatusRequest {});
    if let Some(shown) = shown {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(shown).unwrap());
    }
    let mut client = AdminClient::new(channel(address).await);
    client.node_status(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn without_a_token_set_whoever_is_on_loopback_may_call() {
    let node = TestNode::start(&[]).await;
    assert_eq!(status_with(node.node().admin, None).await, Code::Ok);
}

#[tokio::test]
async fn with_a_token_set_only_who_shows_it_may_call() {
    let (_dir, file) = token_file(&format!("{TOKEN}\n"));
    let node = TestNode::start(&[("RELAY_ADMIN_TOKEN_FILE", &file)]).await;
    let address = node.node().admin;
    for wrong in [None, Some(""), Some("Bearer"), Some("Bearer "), Some(TOKEN), Some("Basic 0123456789abcdef-token")] {
        assert_eq!(status_with(address, wrong).await, Code::Unauthenticated, "{wrong:?}");
    }
    for wrong in [&TOKEN[1..], &TOKEN[..TOKEN.len() - 1], &format!("{TOKEN}x"), &TOKEN.to_uppercase()] {
        let shown = format!("Bearer {wrong}");
        assert_eq!(status_with(address, Some(&shown)).await, Code::Unauthenticated, "{wrong:?}");
    }
    assert_eq!(status_with(address, Some(&format!("bearer {TOKEN}"))).await, Code::Ok);
    // Neither changes anything for who shows none, nor tells what could be called.
    let refused = admin(&node).await.drain(DrainRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(!node.node().vault.is_draining());
    assert_eq!(reflected(address).await.unwrap_err(), Code::Unauthenticated);
    // The health of the node is no secret, and probes have no token.
    assert_eq!(health(address).await, ServingStatus::Serving);

    let good = run(address, &["--token-file", &file, "status"]).await;
    assert!(good.status.success(), "{good:?}");
    let bad = run(address, &["status"]).await;
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(1));
    assert!(told.contains("RELAY_ADMIN_TOKEN_FILE"), "{told}");
}

#[tokio::test]
async fn with_an_authority_set_only_who_has_a_certificate_of_it_may_call_and_is_named_in_the_log() {
    let (server_side, client_side, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = server_side.certify("relay.test");
    let (cert, key) = (write("cert.pem", &cert), write("key.pem", &key));
    let address = free_address();
    let settings = [
        ("RELAY_ADMIN_ADDR", address.to_string()),
        ("RELAY_ADMIN_TLS_CERT", cert),
        ("RELAY_ADMIN_TLS_KEY", key),
        ("RELAY_ADMIN_TLS_CA", client_side.file()),
        ("RELAY_LOG_LEVEL", "info".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut process = Process::start_with_log(&settings).await;

    let call = async |identity: Option<(String, String)>| {
        let ca = std::fs::read(server_side.file()).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("relay.test");
        let tls = match identity {
            Some((cert, key)) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        let channel = in_time("TLS with the port for operators", endpoint.connect()).await.ok()?;
        AdminClient::new(channel).get_log_filter(GetLogFilterRequest {}).await.ok()
    };
    assert!(call(None).await.is_none(), "no certificate");
    assert!(call(Some(stranger.certify_as("ops.test"))).await.is_none(), "one of another authority");
    let (cert, key) = client_side.certify_as("ops.test");
    assert_eq!(call(Some((cert.clone(), key.clone()))).await.unwrap().into_inner().filter, "info");

    let files = (write("ops.pem", &cert), write("ops.key", &key));
    let authority = server_side.file();
    let tls = ["--ca", &authority, "--cert", &files.0, "--key", &files.1, "--server-name", "relay.test"];
    let output = run(address, &[&tls[..], &["log", "debug"]].concat()).await;
    assert!(output.status.success(), "{output:?}");
    loop {
        let line = process.log_line().await.expect("the call is in the log");
        if line.contains("SetLogFilter") {
            assert!(line.contains("127.0.0.1:") && line.contains("certificate ops.test"), "{line}");
            break;
        }
    }
}

#[tokio::test]
async fn a_token_that_changes_is_asked_for_from_then_on() {
    const NEW: &str = "fedcba9876543210-token";
    let (_dir, file) = token_file(TOKEN);
    let node = TestNode::start(&[("RELAY_ADMIN_TOKEN_FILE", &file)]).await;
    let address = node.node().admin;
    let reloads =
        |outcome: &str| format!(r#"waystation_reloads_total{{files="the token of operators",outcome="{outcome}"}}"#);
    std::fs::write(&file, "short").unwrap();
    figure_is(node.public, &reloads("broken"), |count| count == 1.0).await;
    assert_eq!(status_with(address, Some(&format!("Bearer {TOKEN}"))).await, Code::Ok, "the old one stays");
    std::fs::write(&file, NEW).unwrap();
    figure_is(node.public, &reloads("taken"), |count| count == 1.0).await;
    assert_eq!(status_with(address, Some(&format!("Bearer {TOKEN}"))).await, Code::Unauthenticated);
    assert_eq!(status_with(address, Some(&format!("Bearer {NEW}"))).await, Code::Ok);
}

#[tokio::test]
async fn a_certificate_that_changes_is_shown_from_then_on_and_authorities_that_change_count() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = TlsFiles::with(&before.certify("relay.test"), &before.pem());
    let settings = files.settings("RELAY_ADMIN_TLS");
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let node = TestNode::start(&settings).await;
    let address = node.node().admin;
    // Whose certificate the operator has, and whose authority it trusts.
    let call = async |authority: &Authority| {
        let (cert, key) = authority.certify("ops.test");
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        let tls = tls.domain_name("relay.test").identity(Identity::from_pem(cert, key));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        let channel = in_time("TLS with the port for operators", endpoint.connect()).await.ok()?;
        AdminClient::new(channel).node_status(NodeStatusRequest {}).await.ok()
    };
    assert!(call(&before).await.is_some() && call(&after).await.is_none());
    files.write("ca.pem", &after.pem());
    files.write_certified(&after.certify("relay.test"));
    in_time("the new files are in force", async { while call(&after).await.is_none() {} }).await;
    assert!(call(&before).await.is_none());
}

#[tokio::test]
async fn reflection_tells_every_call_and_health_when_the_node_leaves() {
    let node = TestNode::start(&[("RELAY_DRAIN_TIMEOUT_SECS", "300")]).await;
    let address = node.node().admin;
    let services = reflected(address).await.unwrap();
    for expected in ["waystation.admin.v1.Admin", "grpc.health.v1.Health"] {
        assert!(services.iter().any(|name| name == expected), "{services:?}");
    }
    assert_eq!(health(address).await, ServingStatus::Serving);
    // Something that is waited for.
    let _mailbox = crate::support::TestAgent::connect(node.public).await;
    let mut client = admin(&node).await;
    let mut watch = HealthClient::new(channel(address).await)
        .watch(HealthCheckRequest { service: "waystation.admin.v1.Admin".to_owned() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    client.drain(DrainRequest { timeout_secs: Some(300), evacuate: false }).await.unwrap();
    let next = in_time("health changes", watch.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let node = TestNode::start(&[]).await;
    let refused = admin(&node).await.set_log_filter(SetLogFilterRequest { filter: "loud".to_owned() }).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("directives"), "{refused}");
}

async fn health(address: SocketAddr) -> ServingStatus {
    let mut client = HealthClient::new(channel(address).await);
    client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status()
}

/// The services that reflection lists.
async fn reflected(address: SocketAddr) -> Result<Vec<String>, Code> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(address).await);
    let asked = client.server_reflection_info(tokio_stream::once(request)).await;
    let answer = asked.map_err(|status| status.code())?.into_inner().message().await.unwrap().unwrap();
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => Ok(list.service.into_iter().map(|s| s.name).collect()),
        other => panic!("{other:?}"),
    }
}
