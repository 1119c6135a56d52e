//! Blobs that move from one node to another, against a plain gRPC stream of the same frames that nobody stores.
//!
//! Both nodes run here, each with a RocksDB of its own on one disk. The plain stream is answered frame by frame, as an
//! offer is, over loopback without TLS, as the nodes speak.
//!
//! `cargo bench --bench offload`

use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use waystation::cluster::proto::{CircuitPart, MailMoved, MailMoving, MailPlace, PullPage};
use waystation::config::Config;
use waystation::domain::clock::Millis;
use waystation::domain::mailbox::{MailboxKey, MessageKey, Quota, SenderKey};
use waystation::domain::offload::Room;
use waystation::federation::proto::federation_server::{Federation, FederationServer};
use waystation::federation::proto::{Batch, CircuitCall, OffloadPart, PullRequest};
use waystation::mailbox::Goal;
use waystation::node::Node;
use waystation::runtime::time::now;
use waystation::store::{Mailboxes, Moment, NewBlob, RocksStore};

/// Blobs, and the bytes of each.
const LOADS: [(usize, usize); 2] = [(32_000, 2 << 10), (1_600, 64 << 10)];

/// Runs of each side in turn; the middle one of each is reported.
const ROUNDS: usize = 3;

const QUOTA: Quota = Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

/// A header as blobs have it that nobody says to have sent: a text without letters behind its length.
const HEADER: Bytes = Bytes::from_static(&[0, 0]);

/// How long the nodes may take to know of one another.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers every frame, and stores nothing.
struct Plain;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for Plain {
    type LinkStream = Answers<Batch>;
    type OffloadStream = Answers<MailMoved>;
    type CircuitStream = Answers<CircuitPart>;

    async fn link(&self, _: Request<Streaming<Batch>>) -> Result<Response<Self::LinkStream>, Status> {
        Err(Status::unimplemented("this is a bench"))
    }

    async fn pull(&self, _: Request<PullRequest>) -> Result<Response<PullPage>, Status> {
        Err(Status::unimplemented("this is a bench"))
    }

    async fn offload(&self, request: Request<Streaming<OffloadPart>>) -> Result<Response<Self::OffloadStream>, Status> {
        let answers = request.into_inner().map(|part| {
            let id = part?.blob.and_then(|blob| blob.place).unwrap_or_default().id;
            Ok(MailMoved { id, ..MailMoved::default() })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn circuit(&self, _: Request<Streaming<CircuitCall>>) -> Result<Response<Self::CircuitStream>, Status> {
        Err(Status::unimplemented("this is a bench"))
    }
}

async fn plain_channel() -> anyhow::Result<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(FederationServer::new(Plain))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.initial_stream_window_size(1 << 20);
    Ok(endpoint.initial_connection_window_size(4 << 20).connect().await?)
}

/// How long a frame takes, over and over for about so long: short runs differ by whether both ends share a thread.
async fn run_plain(channel: Channel, (blobs, bytes): (usize, usize), length: Duration) -> anyhow::Result<Duration> {
    let frame = MailMoving {
        mailbox: vec![1; 32].into(),
        place: Some(MailPlace { rank: 0, id: vec![1; 16].into() }),
        sender: vec![1; 16].into(),
        header: HEADER,
        body: vec![1; bytes].into(),
        sha256: vec![1; 32].into(),
        ..MailMoving::default()
    };
    let (begun, mut frames) = (Instant::now(), 0);
    while begun.elapsed() < length {
        let frame = frame.clone();
        let parts = stream::iter((0..blobs).map(move |_| OffloadPart { hello: None, blob: Some(frame.clone()) }));
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/waystation.federation.v1.Federation/Offload");
        let codec = ProstCodec::<OffloadPart, MailMoved>::default();
        let answers = grpc.streaming(Request::new(parts), path, codec).await?.into_inner();
        let answered = answers.filter(|answer| std::future::ready(answer.is_ok())).count().await;
        ensure!(answered == blobs, "{answered} of {blobs} frames were answered");
        frames += u32::try_from(blobs)?;
    }
    Ok(begun.elapsed() / frames)
}

/// A data folder with so many blobs of so many bytes.
async fn filled(blobs: usize, bytes: usize) -> anyhow::Result<TempDir> {
    let folder = TempDir::new()?;
    let store = RocksStore::open(&folder.path().join("store"))?;
    let puts = (0..blobs).map(|number| {
        let blob = NewBlob {
            mailbox: MailboxKey::blobs(&(number % 100).to_string()),
            message: MessageKey::of("sender", "recipient", &number.to_string()),
            rank: 0,
            from: SenderKey([0; 16]),
            header: HEADER,
            receipt: Bytes::new(),
            body: vec![number as u8; bytes].into(),
        };
        store.put(blob, QUOTA, Moment { now: now(), horizon: Millis(0) })
    });
    let put: Vec<_> = stream::iter(puts).buffered(256).collect().await;
    put.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(folder)
}

async fn node(folder: &TempDir, region: &str, peers: &str) -> anyhow::Result<Node> {
    let folder = folder.path().display().to_string();
    let pairs = [
        ("RELAY_DATA_DIR", folder.as_str()),
        ("RELAY_LISTEN_ADDR", "127.0.0.1:0"),
        ("RELAY_GRPC_ADDR", "127.0.0.1:0"),
        ("RELAY_GOSSIP_ADDR", "127.0.0.1:0"),
        ("RELAY_ADMIN_ADDR", "127.0.0.1:0"),
        ("RELAY_P2P_ENABLED", "false"),
        ("RELAY_REGION", region),
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_FEDERATION_ADDR", "127.0.0.1:0"),
        ("RELAY_FEDERATION_PEERS", peers),
        ("RELAY_MAX_BLOBS_PER_USER", "0"),
        ("RELAY_MAX_STORAGE_PER_USER", "0"),
        ("RELAY_DISK_RESERVE_BYTES", "0"),
    ];
    Ok(Node::start(&Config::from_pairs(pairs)?).await?)
}

/// How long a blob takes.
async fn run_offload(blobs: usize, bytes: usize) -> anyhow::Result<Duration> {
    let (full, empty) = (filled(blobs, bytes).await?, TempDir::new()?);
    let there = node(&empty, "there", "").await?;
    let peer = format!("http://{}", there.federated.context("it is called somewhere")?);
    let here = node(&full, "here", &peer).await?;
    let begun = Instant::now();
    let has_room = |(_, room): &(_, Room)| room.max > 0;
    while here.cluster.afar.out.get().is_none_or(|out| !out.rooms().iter().any(has_room)) {
        ensure!(begun.elapsed() < PATIENCE, "no node knows of room at another");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let moved = here.mailbox.offload(Goal::Fast(0.0), |_| {}).await?;
    let took = begun.elapsed();
    ensure!(moved.blobs == blobs as u64, "{} of {blobs} blobs have moved", moved.blobs);
    here.stop().await;
    there.stop().await;
    Ok(took / u32::try_from(blobs)?)
}

fn main() -> anyhow::Result<()> {
    // Fails when it is there already, which is as good.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = plain_channel().await?;
        for (blobs, bytes) in LOADS {
            let (mut plain, mut offload) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let took = run_offload(blobs, bytes).await?;
                plain.push(run_plain(channel.clone(), (blobs, bytes), took * u32::try_from(blobs)?).await?);
                offload.push(took);
            }
            let ratio = |(plain, offload): (&Duration, &Duration)| plain.as_secs_f64() / offload.as_secs_f64();
            let each: Vec<_> = plain.iter().zip(&offload).map(|pair| format!("{:.2}", ratio(pair))).collect();
            let [plain, offload] = [plain, offload].map(|mut all| {
                all.sort();
                all[ROUNDS / 2]
            });
            let rate = |each: Duration| 1.0 / each.as_secs_f64();
            let volume = |each: Duration| rate(each) * bytes as f64 / f64::from(1 << 20);
            println!(
                "{blobs} blobs of {bytes} bytes: plain stream {:.0} blobs/s, {:.0} MiB/s; offload {:.0} blobs/s, \
                 {:.0} MiB/s; ratio {:.2} (in each round: {})",
                rate(plain),
                volume(plain),
                rate(offload),
                volume(offload),
                ratio((&plain, &offload)),
                each.join(", "),
            );
        }
        Ok(())
    })
}
