//! The store against RocksDB itself, on the same disk and in the same run.
//!
//! - puts by 64 and 256 callers, against raw group commit with one put a blob and the same batch sizes;
//! - what a put and an acknowledgment cost in an empty mailbox and in one of 10,000 blobs;
//! - a million mailboxes of one blob: how soon a store is open, and the resident memory;
//! - what a put costs there and in an empty store;
//! - the 99th percentile of puts while these million, expired, are swept, against the same without.
//!
//! `cargo bench --bench store [DIRECTORY]`. `STORE_BENCH_SHARE=0.1` does a tenth of everything.

mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

use anyhow::bail;
use bytes::Bytes;
use rand::RngExt as _;
use raw::{Figures, GROUP, Raw, callers};
use waystation::domain::clock::Millis;
use waystation::domain::mailbox::{MailboxKey, MessageKey, Quota, SenderKey};
use waystation::store::{Mailboxes, Moment, NewBlob, Put, RocksStore, SWEEP_STEP};

const BODY_BYTES: usize = 1024;

/// Bytes of what comes with a blob: about those of the mailbox protocol.
const HEADER_BYTES: usize = 150;

/// Rounds of raw commits and puts; the middle ones are reported.
const ROUNDS: usize = 3;

/// A sweep rests for this many times as long as its last step took.
const REST: u32 = 4;

/// Tells a process of its own to open a store and report.
const OPEN: &str = "--open";

const QUOTA: Quota = Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    if let [first, directory] = &arguments[..]
        && first == OPEN
    {
        return report_open(Path::new(directory));
    }
    let parent = arguments.first().map_or_else(env::temp_dir, PathBuf::from);
    let directory = parent.join(format!("store-bench-{}", process::id()));
    fs::create_dir_all(&directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(run(&directory));
    fs::remove_dir_all(&directory)?;
    done
}

async fn run(directory: &Path) -> anyhow::Result<()> {
    let share: f64 = env::var("STORE_BENCH_SHARE").map_or(Ok(1.0), |share| share.parse())?;
    let length = Duration::from_secs(5).mul_f64(share);
    for callers in [64, 256] {
        against_raw(directory, callers, length).await?;
    }
    depth(&directory.join("depth"), scaled(10_000, share), scaled(2_000, share)).await?;
    let million = directory.join("million");
    fill(&million, scaled(1_000_000, share)).await?;
    let open = process::Command::new(env::current_exe()?).arg(OPEN).arg(&million).status()?;
    if !open.success() {
        bail!("the store did not open again");
    }
    breadth(&directory.join("empty"), &million, scaled(20_000, share)).await?;
    sweep(&million, 2 * length).await
}

fn scaled(number: usize, share: f64) -> usize {
    (number as f64 * share).ceil() as usize
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis() as u64)
}

fn present() -> Moment {
    Moment { now: now(), horizon: Millis(0) }
}

/// A mailbox and a message of its own for each number; what is in it cannot be compressed.
fn blob(mailbox: usize, message: usize) -> NewBlob {
    let mut body = vec![0; BODY_BYTES];
    rand::rng().fill(&mut body[..]);
    NewBlob {
        mailbox: MailboxKey::blobs(&mailbox.to_string()),
        message: MessageKey::of("sender", &mailbox.to_string(), &message.to_string()),
        rank: 0,
        from: SenderKey([7; 16]),
        header: Bytes::from(vec![b'h'; HEADER_BYTES]),
        receipt: Bytes::from(vec![b'r'; HEADER_BYTES]),
        body: body.into(),
    }
}

async fn put(store: &RocksStore, blob: NewBlob) -> anyhow::Result<()> {
    match store.put(blob, QUOTA, present()).await? {
        Put::Stored(_) => Ok(()),
        other => bail!("not stored but {other:?}"),
    }
}

async fn put_raw(committer: &Raw, number: usize) -> anyhow::Result<()> {
    let NewBlob { mailbox, message, header, body, .. } = blob(number % 1_000, number);
    let key = [&mailbox.0[..], &message.to_bytes(), &number.to_be_bytes(), &number.to_be_bytes()].concat();
    committer.put(key.into(), [&header[..], &body].concat().into()).await
}

async fn against_raw(directory: &Path, count: usize, length: Duration) -> anyhow::Result<()> {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let path = directory.join(format!("raw-{count}-{round}"));
        let committer = Arc::new(Raw::open(&path, GROUP)?);
        let call = move |number| {
            let committer = committer.clone();
            async move { put_raw(&committer, number).await }
        };
        raw.push(callers(count, length, call).await?);
        fs::remove_dir_all(path)?;

        let path = directory.join(format!("ours-{count}-{round}"));
        let store = Arc::new(RocksStore::open(&path)?);
        let figures = callers(count, length, move |number| {
            let store = store.clone();
            async move { put(&store, blob(number % 1_000, number)).await }
        });
        ours.push(figures.await?);
        fs::remove_dir_all(path)?;
    }
    let (raw, ours) = (Figures::middle(raw), Figures::middle(ours));
    for (name, figures) in [("raw group commit", &raw), ("put", &ours)] {
        println!(
            "{count:>4} callers, {name:<17} {:>8.0} per second, p50 {:>6.2} ms, p99 {:>6.2} ms",
            figures.per_second,
            figures.p50.as_secs_f64() * 1e3,
            figures.p99.as_secs_f64() * 1e3
        );
    }
    println!("{count:>4} callers: {:.2} of raw", ours.per_second / raw.per_second);
    Ok(())
}

async fn depth(path: &Path, deep: usize, rounds: usize) -> anyhow::Result<()> {
    const EMPTY: usize = 1;
    const DEEP: usize = 2;
    let store = Arc::new(RocksStore::open(path)?);
    for first in (0..deep).step_by(256) {
        let puts = (first..deep.min(first + 256)).map(|message| put(&store, blob(DEEP, message)));
        futures::future::try_join_all(puts).await?;
    }
    // In turn, so that whatever else the machine does meets both alike; many at once, so that it is work that is
    // measured and not the disk's sync.
    let mut spent = [[Duration::ZERO; 2]; 3];
    for round in 0..rounds / 64 {
        for mailbox in [EMPTY, DEEP] {
            let messages: Vec<usize> = (0..64).map(|i| deep + round * 64 + i).collect();
            let begin = Instant::now();
            futures::future::try_join_all(messages.iter().map(|m| put(&store, blob(mailbox, *m)))).await?;
            spent[mailbox][0] += begin.elapsed();
            let begin = Instant::now();
            futures::future::try_join_all(messages.iter().map(|m| {
                let NewBlob { mailbox, message, .. } = blob(mailbox, *m);
                store.ack(mailbox, vec![message], present(), Duration::from_secs(86_400))
            }))
            .await?;
            spent[mailbox][1] += begin.elapsed();
        }
    }
    for (what, name) in ["put", "ack"].into_iter().enumerate() {
        let each = |mailbox: usize| spent[mailbox][what].as_secs_f64() * 1e6 / (rounds / 64 * 64).max(1) as f64;
        let (empty, deep_us) = (each(EMPTY), each(DEEP));
        println!("{name}: {empty:.1} µs in an empty mailbox, {deep_us:.1} µs in one of {deep}: {:.2}", deep_us / empty);
    }
    drop(store);
    Ok(fs::remove_dir_all(path)?)
}

async fn fill(path: &Path, mailboxes: usize) -> anyhow::Result<()> {
    let store = Arc::new(RocksStore::open(path)?);
    let (begin, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..256).map(|_| {
        let (store, next) = (store.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= mailboxes {
                    return anyhow::Ok(());
                }
                put(&store, blob(number, number)).await?;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    println!("{mailboxes} mailboxes of one blob were filled in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Puts into new mailboxes of an empty store and of a full one, in turn.
async fn breadth(empty: &Path, full: &Path, rounds: usize) -> anyhow::Result<()> {
    const NEW: usize = 100_000_000;
    let stores = [RocksStore::open(empty)?, RocksStore::open(full)?];
    let held = stores[1].usage().await?.blobs;
    let mut spent = [Duration::ZERO; 2];
    for first in (NEW..NEW + rounds).step_by(64) {
        for (store, spent) in stores.iter().zip(&mut spent) {
            let begin = Instant::now();
            futures::future::try_join_all((first..first + 64).map(|number| put(store, blob(number, number)))).await?;
            *spent += begin.elapsed();
        }
    }
    let [empty, full] = spent.map(|spent| spent.as_secs_f64() * 1e6 / rounds as f64);
    println!("put: {empty:.1} µs in an empty store, {full:.1} µs in one of {held} blobs: {:.2}", full / empty);
    Ok(())
}

/// In a process of its own: how soon the store is open, and how much memory that takes.
fn report_open(path: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let begin = Instant::now();
    let store = RocksStore::open(path)?;
    let usage = runtime.block_on(store.usage())?;
    let open = begin.elapsed();
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim();
    println!("a store of {} blobs was open in {:.2} s; resident: {resident}", usage.blobs, open.as_secs_f64());
    Ok(())
}

async fn sweep(path: &Path, length: Duration) -> anyhow::Result<()> {
    let store = Arc::new(RocksStore::open(path)?);
    let horizon = now();
    let first_new = AtomicUsize::new(10_000_000);
    let next = Arc::new(first_new);
    let puts = async |store: &Arc<RocksStore>| {
        let (store, next) = (store.clone(), next.clone());
        callers(64, length, move |_| {
            let (store, number) = (store.clone(), next.fetch_add(1, Ordering::Relaxed));
            async move { put(&store, blob(number % 1_000, number)).await }
        })
        .await
    };
    let without = puts(&store).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let sweeper = {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut swept = 0;
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let step = store.sweep(Moment { now: now(), horizon }, SWEEP_STEP).await?;
                if step.blobs == 0 {
                    break;
                }
                swept += step.blobs;
                tokio::time::sleep(REST * begin.elapsed()).await;
            }
            anyhow::Ok(swept)
        })
    };
    let with = puts(&store).await?;
    stop.store(true, Ordering::Relaxed);
    let swept = sweeper.await??;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "64 callers put: p99 {:.2} ms ({:.0} per second); while {:.0} blobs a second are swept {:.2} ms ({:.0}): {:.2}",
        ms(without.p99),
        without.per_second,
        swept as f64 / length.as_secs_f64(),
        ms(with.p99),
        with.per_second,
        ms(with.p99) / ms(without.p99)
    );
    Ok(())
}
