//! Durable stores through a WebSocket against RocksDB itself, on the same disk and in the same run.
//!
//! Raw group commit is measured twice: with as many blobs in one sync as the relay put into one just before, and with as
//! many callers as the relay has clients, each with one blob on its way at a time, so that it puts as many into one sync
//! as it can. The relay is a process of its own; its clients, and the callers, are here.
//! On a machine of few cores the clients take from the relay what the callers do not take from RocksDB: what each side
//! costs in CPU time is told for both. A bare server between the two, which only hands each message of the same clients
//! to the same group commit, says what any server could reach here.
//!
//! `cargo bench --bench mailbox`. `MAILBOX_BENCH_SHARE=0.2` does a fifth of everything.

mod bare;
mod raw;
mod servers;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, bail};
use bytes::Bytes;
use raw::{Figures, GROUP, Raw, callers};
use servers::Server;
use waystation::bench::mailbox::{ANSWER_TIMEOUT, MailboxLoad, MailboxReport, MailboxUrl};
use waystation::bench::process::usage;
use waystation::domain::clock::Millis;
use waystation::wire::vauchi::incoming::Incoming;
use waystation::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use waystation::wire::vauchi::payload::{ClientPayload, EncryptedUpdate, Status};

/// What the relay is given too, so that both sides allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients, and callers.
const CLIENTS: [usize; 2] = [64, 256];

/// Bytes of a blob: what `waystation bench mailbox` sends.
const PAYLOAD_BYTES: usize = 256;

/// Bytes of the name that is stored with it.
const HEADER_BYTES: usize = 66;

/// Bytes of the key of a blob.
const KEY_BYTES: usize = 56;

/// Mailboxes that each client writes to.
const MAILBOXES: usize = 100;

/// Runs of each side in turn; the middle ones are reported.
const ROUNDS: usize = 3;

/// The argument with which this is the bare server; its port follows.
const BARE: &str = "--bare-server";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks only whether this builds.
    if env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    if env::args().nth(1).is_some_and(|argument| argument == BARE) {
        let port = env::args().nth(2).context("no port")?.parse()?;
        return bare::serve(port, Path::new("bare"), KEY_BYTES, HEADER_BYTES + PAYLOAD_BYTES).await;
    }
    let share: f64 = env::var("MAILBOX_BENCH_SHARE").map_or(Ok(1.0), |share| share.parse())?;
    for clients in CLIENTS {
        compare(clients, Duration::from_secs(5).mul_f64(share)).await?;
    }
    Ok(())
}

/// What one side did.
struct Side {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// CPU time of the process that stores, and of the one that asks: for each blob, in µs.
    cpu_us: f64,
    client_cpu_us: f64,
}

impl Side {
    fn print(&self, name: &str) {
        let Self { per_second, p50_us, p99_us, cpu_us, client_cpu_us } = self;
        println!(
            "  {name:<17} {per_second:>8.0} per second, p50 {p50_us:>6.0} us, p99 {p99_us:>6.0} us, \
             CPU {cpu_us:>5.1} us each, and {client_cpu_us:.1} us of the clients"
        );
    }
}

async fn compare(clients: usize, length: Duration) -> anyhow::Result<()> {
    let (mut raw, mut bare, mut relay, mut alike) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut groups = Vec::new();
    for _ in 0..ROUNDS {
        raw.push(run_raw(clients, GROUP, length).await?);
        bare.push(run_server(&Server::own("the bare server", &[BARE])?, clients, length).await?);
        let server = Server::relay_on_disk("the relay")?;
        relay.push(run_server(&server, clients, length).await?);
        let group =
            server.figure("waystation_store_changes_total")? / server.figure("waystation_store_write_seconds_count")?;
        drop(server);
        let group = group.round() as usize;
        // While one half is written, the other half comes: so each group is full.
        alike.push(run_raw(2 * group, group, length).await?);
        groups.push(group.to_string());
    }
    let ratios = |sides: &[Side], of: &[Side]| {
        let ratios = sides.iter().zip(of).map(|(side, of)| format!("{:.2}", side.per_second / of.per_second));
        ratios.collect::<Vec<_>>().join(", ")
    };
    let (of_raw, of_bare, of_alike) = (ratios(&relay, &raw), ratios(&relay, &bare), ratios(&relay, &alike));
    let middle = |mut sides: Vec<Side>| {
        sides.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        sides.swap_remove(sides.len() / 2)
    };
    let (raw, bare, relay, alike) = (middle(raw), middle(bare), middle(relay), middle(alike));
    println!("{clients} clients, blobs of {PAYLOAD_BYTES} bytes:");
    raw.print("raw, as many");
    alike.print("raw, groups alike");
    bare.print("bare server");
    relay.print("through WebSocket");
    println!(
        "  {:.2} of raw with groups alike (in each round: {of_alike}; {} blobs in one)",
        relay.per_second / alike.per_second,
        groups.join(", ")
    );
    let json_us = json_us();
    println!(
        "  {:.2} of raw with as many callers (in each round: {of_raw}), {:.2} of the bare server ({of_bare}), which is {:.2} of raw; \
         JSON takes {json_us:.1} us of the relay's {:.1}",
        relay.per_second / raw.per_second,
        relay.per_second / bare.per_second,
        bare.per_second / raw.per_second,
        relay.cpu_us
    );
    Ok(())
}

async fn run_raw(clients: usize, most: usize, length: Duration) -> anyhow::Result<Side> {
    let directory = tempfile::tempdir()?;
    let committer = Arc::new(Raw::open(directory.path(), most)?);
    let before = usage(process::id())?.cpu;
    let figures: Figures = callers(clients, length, move |_| {
        let committer = committer.clone();
        async move {
            let key: [u8; KEY_BYTES] = rand::random();
            let mut value = vec![0; HEADER_BYTES + PAYLOAD_BYTES];
            rand::fill(&mut value[..]);
            committer.put(Bytes::copy_from_slice(&key), value.into()).await
        }
    })
    .await?;
    let cpu = usage(process::id())?.cpu.saturating_sub(before);
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Side {
        per_second: figures.per_second,
        p50_us: us(figures.p50),
        p99_us: us(figures.p99),
        cpu_us: us(cpu) / figures.calls.max(1) as f64,
        client_cpu_us: 0.0,
    })
}

async fn run_server(server: &Server, clients: usize, length: Duration) -> anyhow::Result<Side> {
    let url: MailboxUrl = server.address.parse()?;
    let load = MailboxLoad {
        url: url.clone(),
        recipient_url: url,
        clients,
        in_flight: 1,
        payload_bytes: PAYLOAD_BYTES,
        mailboxes: MAILBOXES,
        deliver: false,
        duration: length,
        patience: ANSWER_TIMEOUT,
        processes: vec![server.child.id(), process::id()],
    };
    let report: MailboxReport = load.run().await?;
    let [relay, own] = &report.processes[..] else { bail!("no figures of the processes") };
    if report.stored == 0 || report.failed > 0 || !report.errors.is_empty() {
        bail!("not everything was stored: {report}");
    }
    Ok(Side {
        per_second: report.stored_per_second(),
        p50_us: report.latency.p50_us,
        p99_us: report.latency.p99_us,
        cpu_us: report.cpu_us_per_store(relay),
        client_cpu_us: report.cpu_us_per_store(own),
    })
}

/// What it takes to read the frame of a blob and to write its answer, in µs.
fn json_us() -> f64 {
    let id = "0a".repeat(32);
    let mut blob = vec![0; PAYLOAD_BYTES];
    rand::fill(&mut blob[..]);
    let update =
        EncryptedUpdate { recipient_id: (&*id).into(), sender_id: Some((&*id).into()), ciphertext: blob.into() };
    let payload = ClientPayload::EncryptedUpdate(update);
    let frame = Incoming { version: 1, message_id: (&*id).into(), timestamp: 1_771_000_000, payload }.encode();
    let payload = RelayPayload::Acknowledgment { message_id: &id, status: Status::Stored };
    let answer = Outgoing { message_id: &id, now: Millis(1_771_000_000_000), payload };
    let each = || {
        const CALLS: u32 = 1_000;
        let begin = Instant::now();
        for _ in 0..CALLS {
            drop(black_box(Incoming::decode(black_box(&frame))));
            drop(black_box(black_box(&answer).encode()));
        }
        begin.elapsed() / CALLS
    };
    (0..20).map(|_| each()).min().unwrap_or_default().as_secs_f64() * 1e6
}
