//! What the JSON of a mailbox frame costs: the scanner and the tables against serde_json, on frames of 250 kB.
//!
//! `cargo bench --bench vauchi_json`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use waystation::domain::clock::Millis;
use waystation::wire::vauchi::array;
use waystation::wire::vauchi::incoming::Incoming;
use waystation::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use waystation::wire::vauchi::payload::{ClientPayload, EncryptedUpdate};

/// Ciphertext whose frame has 250 kB, and one as small as a card update.
const BLOBS: [usize; 2] = [70_000, 256];

/// How long each way is measured at a time: shorter than what a scheduler lets a process run undisturbed.
const RUN: Duration = Duration::from_millis(3);

/// Runs of each; the fastest counts, as nothing but disturbance makes a run slower.
const ROUNDS: usize = 300;

/// A message as a plain serde program has it.
#[derive(Serialize, Deserialize)]
struct Plain {
    version: u8,
    message_id: String,
    timestamp: u64,
    payload: PlainPayload,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum PlainPayload {
    EncryptedUpdate { recipient_id: String, sender_id: String, ciphertext: Vec<u8> },
}

/// A message whose values serde_json finds and leaves: what the scanner would be replaced by.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    message_id: &'a str,
    #[serde(borrow)]
    payload: RawPayload<'a>,
}

#[derive(Deserialize)]
struct RawPayload<'a> {
    #[serde(borrow)]
    recipient_id: &'a RawValue,
    #[serde(borrow)]
    ciphertext: &'a RawValue,
}

fn decode_raw(json: &[u8]) -> Option<usize> {
    let raw: Raw<'_> = serde_json::from_slice(json).ok()?;
    let recipient_id: &str = serde_json::from_str(raw.payload.recipient_id.get()).ok()?;
    let (ciphertext, _) = array::decode(raw.payload.ciphertext.get().as_bytes())?;
    Some(raw.message_id.len() + recipient_id.len() + ciphertext.len())
}

/// Time of one call of `work`.
fn fastest(mut work: impl FnMut()) -> Duration {
    let mut run = || {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < RUN {
            work();
            calls += 1;
        }
        start.elapsed() / calls
    };
    (0..ROUNDS).map(|_| run()).min().unwrap_or_default()
}

fn print(name: &str, time: Duration, base: Duration, frame_bytes: usize) {
    let (us, base_us) = (time.as_secs_f64() * 1e6, base.as_secs_f64() * 1e6);
    let megabytes = frame_bytes as f64 / us;
    println!("  {name:<28} {us:>9.2} us  {megabytes:>7.0} MB of JSON/s  {:.2}x", base_us / us);
}

fn main() {
    // `cargo test --benches` asks only whether this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for blob_bytes in BLOBS {
        // Bytes without a pattern that a branch predictor could learn.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let blob: Bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(blob_bytes)
        .collect();
        let id = "0a".repeat(32);
        let update =
            EncryptedUpdate { recipient_id: (&*id).into(), sender_id: Some((&*id).into()), ciphertext: blob.clone() };
        let payload = ClientPayload::EncryptedUpdate(update);
        let frame = Incoming { version: 1, message_id: (&*id).into(), timestamp: 1_771_000_000, payload }.encode();
        let json = frame.get(4..).unwrap_or_default();

        println!("a blob of {blob_bytes} bytes, a frame of {}, read:", frame.len());
        let plain = fastest(|| drop(black_box(serde_json::from_slice::<Plain>(black_box(json)))));
        let raw = fastest(|| {
            black_box(decode_raw(black_box(json)));
        });
        let ours = fastest(|| drop(black_box(Incoming::decode(black_box(&frame)))));
        print("serde_json, derived", plain, plain, frame.len());
        print("serde_json's RawValue, array", raw, plain, frame.len());
        print("ours", ours, plain, frame.len());

        println!("and written:");
        let payload = PlainPayload::EncryptedUpdate {
            recipient_id: id.clone(),
            sender_id: id.clone(),
            ciphertext: blob.to_vec(),
        };
        let message = Plain { version: 1, message_id: id.clone(), timestamp: 1_771_000_000, payload };
        let plain = fastest(|| drop(black_box(serde_json::to_vec(black_box(&message)))));
        let payload = RelayPayload::EncryptedUpdate { recipient_id: &id, sender_id: &id, ciphertext: &blob };
        let outgoing = Outgoing { message_id: &id, now: Millis(1_771_000_000_000), payload };
        let ours = fastest(|| drop(black_box(black_box(&outgoing).encode())));
        let counted = fastest(|| {
            black_box(black_box(&outgoing).frame_len());
        });
        print("serde_json, derived", plain, plain, frame.len());
        print("ours", ours, plain, frame.len());
        print("ours, only its length", counted, plain, frame.len());
    }
}
