//! RocksDB with nothing around it but group commit, and callers who ask one after the other.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use tokio::sync::{mpsc, oneshot};

/// What callers got.
pub struct Figures {
    pub per_second: f64,
    pub calls: usize,
    pub p50: Duration,
    pub p99: Duration,
}

impl Figures {
    /// Those of the run in the middle.
    pub fn middle(mut figures: Vec<Self>) -> Self {
        figures.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        figures.swap_remove(figures.len() / 2)
    }
}

/// Runs callers until `length` is over; `call` is given a number of its own each time.
pub async fn callers<F, Fut>(count: usize, length: Duration, call: F) -> anyhow::Result<Figures>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let (call, next) = (Arc::new(call), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let tasks = (0..count).map(|_| {
        let (call, next) = (call.clone(), next.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < length {
                let begin = Instant::now();
                call(next.fetch_add(1, Ordering::Relaxed)).await?;
                latencies.push(begin.elapsed());
            }
            anyhow::Ok(latencies)
        })
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await??);
    }
    let per_second = latencies.len() as f64 / start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
    Ok(Figures { per_second, calls: latencies.len(), p50: at(0.5), p99: at(0.99) })
}

/// A key, a value, and who waits for it to be written.
type Put = (Bytes, Bytes, oneshot::Sender<Result<(), String>>);

/// Most puts in one group, where nothing else is said.
pub const GROUP: usize = 256;

/// Group commit: one thread, one key and value a blob, one synced write a group.
pub struct Raw {
    queue: Option<mpsc::Sender<Put>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Raw {
    /// With at most `most` puts in a group.
    pub fn open(path: &Path, most: usize) -> anyhow::Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(32 << 20);
        options.set_compression_type(DBCompressionType::None);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        let db = DB::open(&options, path)?;
        let (queue, mut waiting) = mpsc::channel::<Put>(8192);
        let thread = thread::spawn(move || {
            let mut synced = WriteOptions::default();
            synced.set_sync(true);
            while let Some(first) = waiting.blocking_recv() {
                let mut group = vec![first];
                while group.len() < most {
                    let Ok(next) = waiting.try_recv() else { break };
                    group.push(next);
                }
                let mut batch = WriteBatch::default();
                for (key, value, _) in &group {
                    batch.put(key, value);
                }
                let written = db.write_opt(batch, &synced).map_err(|error| error.to_string());
                for (_, _, answer) in group {
                    drop(answer.send(written.clone()));
                }
            }
        });
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub async fn put(&self, key: Bytes, value: Bytes) -> anyhow::Result<()> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().context("closed")?;
        queue.send((key, value, answer)).await.ok().context("closed")?;
        answered.await?.map_err(anyhow::Error::msg)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
