//! Promises that a script of one caller does not show, or that are worth a name of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tempfile::TempDir;

use super::model::{blob, carried};
use super::{Backend, FREE, at, mailbox, message};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BLOB_OVERHEAD_BYTES, BlobId, Full, Holdings, Place, Quota, SenderKey, Stamp};
use crate::store::{
    Acked, Carried, Elsewhere, Held, Known, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_MESSAGES, MAX_RECEIPT_BYTES,
    Mailboxes, Moment, Moving, NewBlob, PageLimit, Put, SWEEP_STEP, StoreError, Sweep, Taken,
};

const NOW: u64 = 1_000;
const REMEMBER: Duration = Duration::from_millis(500);
const ALL: PageLimit = PageLimit { blobs: usize::MAX, bytes: usize::MAX };

/// The moment `now`, at which everything stored at or before `horizon` has expired.
fn expiring(now: u64, horizon: u64) -> Moment {
    Moment { now: Millis(now), horizon: Millis(horizon) }
}

fn numbered(mailbox_name: &str, id: usize) -> NewBlob {
    blob(mailbox(mailbox_name), message(id), 1, 0, Bytes::from(id.to_string()))
}

async fn stored(store: &dyn Mailboxes, blob: NewBlob, now: u64) -> BlobId {
    match store.put(blob, FREE, at(now)).await.unwrap() {
        Put::Stored(id) => id,
        other => panic!("not stored but {other:?}"),
    }
}

/// The ids of all that waits, read in pages of `limit`.
async fn read_all(store: &dyn Mailboxes, name: &str, limit: PageLimit, at: Moment) -> Vec<BlobId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(mailbox(name), after, limit, at).await.unwrap();
        ids.extend(page.blobs.iter().map(|blob| blob.place.id));
        after = page.blobs.last().map(|blob| blob.place).or(after);
        if !page.more {
            return ids;
        }
    }
}

pub(super) async fn of_many_who_put_the_same_message_one_stores_it<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let callers = (0..100).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.put(numbered("m", 1), FREE, at(NOW)).await.unwrap() })
    });
    let answers: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let ids: Vec<_> =
        answers.iter().filter_map(|put| if let Put::Stored(id) = put { Some(*id) } else { None }).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|put| **put == Put::Duplicate(ids[0])).count(), 99);
    assert_eq!(store.holdings(mailbox("m")).await.unwrap().blobs, 1);
}

pub(super) async fn a_quota_holds_whoever_puts_at_the_same_time<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let quota = Quota { blobs: Some(50), sender_blobs: Some(20), ..FREE };
    let callers = (0..200).map(|id| {
        let store = store.clone();
        let blob = NewBlob { from: SenderKey([id as u8 % 4; 16]), ..numbered("m", id) };
        tokio::spawn(async move { (id % 4, store.put(blob, quota, at(NOW)).await.unwrap()) })
    });
    let mut of_sender = [0; 4];
    for answer in join_all(callers).await {
        match answer.unwrap() {
            (sender, Put::Stored(_)) => of_sender[sender] += 1,
            (_, Put::Refused(Full::Mailbox | Full::Sender)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(of_sender.iter().sum::<u64>(), 50, "{of_sender:?}");
    assert!(of_sender.iter().all(|blobs| *blobs <= 20), "{of_sender:?}");
}

pub(super) async fn a_message_is_marked_once_whoever_asks<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    stored(&*store, numbered("m", 1), NOW).await;
    let callers = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.mark_delivered(mailbox("m"), vec![message(1)], at(NOW)).await.unwrap() })
    });
    let marked = join_all(callers).await.into_iter().filter(|answer| answer.as_ref().unwrap()[0].is_some()).count();
    assert_eq!(marked, 1);
    if B::DURABLE {
        drop(store);
        store = B::open(directory.path());
        assert_eq!(store.mark_delivered(mailbox("m"), vec![message(1)], at(NOW)).await.unwrap(), [None]);
    }
}

pub(super) async fn a_reader_who_goes_on_after_what_he_saw_misses_nothing<B: Backend>() {
    const BLOBS: usize = 400;
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for id in (writer..BLOBS).step_by(4) {
                // Clocks that differ from caller to caller, and run back.
                stored(&*store, numbered("m", id), NOW - id as u64).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut seen, mut after): (Vec<Place>, _) = (Vec::new(), None);
            while seen.len() < BLOBS {
                let limit = PageLimit { blobs: 7, bytes: usize::MAX };
                let page = store.page(mailbox("m"), after, limit, at(NOW)).await.unwrap();
                seen.extend(page.blobs.iter().map(|blob| blob.place));
                after = seen.last().copied();
                tokio::task::yield_now().await;
            }
            seen
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("the reader missed a blob").unwrap();
    assert!(seen.is_sorted_by(|a, b| a < b));
}

pub(super) async fn what_has_expired_in_a_mailbox_makes_room_in_it<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let quota = Quota { blobs: Some(3), sender_bytes: Some(10 * BLOB_OVERHEAD_BYTES), ..FREE };
    for id in 0..3 {
        stored(&*store, numbered("m", id), NOW + id as u64).await;
    }
    let put = async |id, horizon| store.put(numbered("m", id), quota, expiring(NOW + 10, horizon)).await.unwrap();
    assert_eq!(put(3, NOW - 1).await, Put::Refused(Full::Mailbox));
    assert!(matches!(put(3, NOW).await, Put::Stored(_)), "one had expired");
    assert_eq!(put(4, NOW).await, Put::Refused(Full::Mailbox));
    assert!(matches!(put(4, NOW + 1).await, Put::Stored(_)), "another had expired");
    assert_eq!(store.holdings(mailbox("m")).await.unwrap().blobs, 3);
}

pub(super) async fn ids_grow_over_a_restart_with_a_clock_that_ran_back<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    let first = stored(&*store, numbered("m", 1), NOW).await;
    store.ack(mailbox("m"), vec![message(1)], at(NOW), REMEMBER).await.unwrap();
    if B::DURABLE {
        drop(store);
        store = B::open(directory.path());
    }
    let second = stored(&*store, numbered("m", 2), 1).await;
    assert!(second > first, "{second} came after {first}");
}

pub(super) async fn a_deep_mailbox_is_swept_and_purged_in_steps<B: Backend>() {
    const BLOBS: usize = 1_500;
    let directory = TempDir::new().unwrap();
    let store: Arc<dyn Mailboxes> = B::open(directory.path());
    let fill = async |name: &str| {
        for first in (0..BLOBS).step_by(20) {
            // Few enough that none waits to be let in, so that they are stored in this order.
            join_all((first..first + 20).map(|id| store.put(numbered(name, id), FREE, at(NOW + id as u64)))).await;
        }
    };
    fill("swept").await;
    fill("purged").await;
    // The clocks of the second were behind, so its ids share the last milliseconds of the first.
    let last = read_all(&*store, "purged", ALL, at(NOW)).await.last().unwrap().time().0;
    let horizon = NOW + 499;
    assert_eq!(store.sweep(expiring(last, horizon), 300).await.unwrap(), Sweep { blobs: 300, done: 0 });
    assert_eq!(read_all(&*store, "swept", ALL, expiring(last, horizon)).await.len(), BLOBS - 500);
    assert_eq!(store.sweep(expiring(last, horizon), 300).await.unwrap(), Sweep { blobs: 200, done: 0 });
    assert_eq!(store.holdings(mailbox("swept")).await.unwrap().blobs, BLOBS as u64 - 500);

    let later = expiring(last + 1, horizon);
    assert_eq!(store.purge(mailbox("purged"), Millis(last), later, REMEMBER).await.unwrap(), BLOBS as u64);
    assert_eq!(store.holdings(mailbox("purged")).await.unwrap(), Holdings::default());
    assert_eq!(store.known(mailbox("purged"), vec![message(7)], later).await.unwrap(), [Known::Done]);
    let over = expiring(last + 1 + REMEMBER.as_millis() as u64, horizon);
    assert_eq!(store.sweep(over, usize::MAX).await.unwrap(), Sweep { blobs: 0, done: BLOBS });
    assert_eq!(store.usage().await.unwrap().blobs, BLOBS as u64 - 500);
}

pub(super) async fn an_acknowledged_message_is_forgotten_when_its_time_is_over<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let id = stored(&*store, numbered("m", 1), NOW).await;
    let acked = store.ack(mailbox("m"), vec![message(1), message(2)], at(NOW), REMEMBER).await.unwrap();
    assert!(matches!(&acked[..], [Some(Acked::Blob { place, .. }), None] if *place == Place { rank: 0, id }));
    assert_eq!(store.usage().await.unwrap(), Holdings::default());
    let end = NOW + REMEMBER.as_millis() as u64;
    assert_eq!(store.put(numbered("m", 1), FREE, at(end - 1)).await.unwrap(), Put::Done);
    let again = stored(&*store, numbered("m", 1), end).await;
    assert!(again > id);
    // The memory that the new blob replaced must not delete it, or be counted.
    assert_eq!(store.sweep(at(end + 1), 10).await.unwrap(), Sweep::default());
    assert_eq!(
        store.known(mailbox("m"), vec![message(1)], at(end + 1)).await.unwrap(),
        [Known::Live(Place { rank: 0, id: again })]
    );
}

pub(super) async fn of_what_was_moved_a_purge_is_owed_until_it_is_settled<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    for id in [1, 2] {
        let there = stored(&*store, numbered("m", id), NOW + id as u64).await;
        let moving = vec![Moving { mailbox: mailbox("m"), id: there, there }];
        store.moved(moving, "there".into(), expiring(NOW + 2, 0)).await.unwrap();
    }
    // The second was stored later.
    assert_eq!(store.purge(mailbox("m"), Millis(NOW + 1), expiring(NOW + 2, 0), REMEMBER).await.unwrap(), 0);
    let elsewhere = async || store.elsewhere(None, None, 10, expiring(NOW + 2, 0)).await.unwrap();
    let owed = |moved: Vec<Elsewhere>| {
        let mut owed: Vec<_> = moved.into_iter().map(|moved| (moved.id.time().0 - NOW, moved.owed)).collect();
        owed.sort_unstable();
        owed
    };
    assert_eq!(owed(elsewhere().await), [(1, true), (2, false)]);
    let known = store.known(mailbox("m"), vec![message(1), message(2)], expiring(NOW + 2, 0)).await.unwrap();
    assert_eq!(known, [Known::Done, Known::Moved]);
    assert_eq!(store.settle(vec![(mailbox("m"), message(1))], expiring(NOW + 2, 0), REMEMBER).await.unwrap(), 1);
    assert_eq!(owed(elsewhere().await), [(2, false)]);
}

pub(super) async fn a_page_holds_one_blob_however_large<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    for id in 0..3 {
        let body = vec![id as u8; 100_000].into();
        stored(&*store, NewBlob { body, ..numbered("m", id) }, NOW).await;
    }
    let limit = PageLimit { blobs: 10, bytes: 1 };
    let page = store.page(mailbox("m"), None, limit, at(NOW)).await.unwrap();
    assert_eq!((page.blobs.len(), page.more), (1, true));
    assert_eq!(read_all(&*store, "m", limit, at(NOW)).await.len(), 3);
    let page = store.page(mailbox("m"), None, PageLimit { blobs: 10, bytes: 150_000 }, at(NOW)).await.unwrap();
    assert_eq!((page.blobs.len(), page.more), (2, true));
}

pub(super) async fn what_is_too_large_is_refused_by_name<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let bytes = |length: usize| Bytes::from(vec![0; length]);
    let largest = NewBlob {
        header: bytes(MAX_HEADER_BYTES),
        receipt: bytes(MAX_RECEIPT_BYTES),
        body: bytes(MAX_BODY_BYTES),
        ..numbered("m", 1)
    };
    let too_large = [
        ("header", NewBlob { header: bytes(MAX_HEADER_BYTES + 1), ..largest.clone() }),
        ("receipt", NewBlob { receipt: bytes(MAX_RECEIPT_BYTES + 1), ..largest.clone() }),
        ("body", NewBlob { body: bytes(MAX_BODY_BYTES + 1), ..largest.clone() }),
    ];
    for (name, blob) in too_large {
        let refused = store.put(blob, FREE, at(NOW)).await;
        assert!(matches!(refused, Err(StoreError::BlobTooLarge { part, .. }) if part == name), "{name}");
    }
    let id = stored(&*store, largest.clone(), NOW).await;
    let got = store.get(mailbox("m"), Place { rank: 0, id }, at(NOW)).await.unwrap().unwrap();
    assert!(got.body == largest.body && got.header == largest.header);
    let many = vec![message(1); MAX_MESSAGES + 1];
    assert!(matches!(store.ack(mailbox("m"), many, at(NOW), REMEMBER).await, Err(StoreError::TooManyMessages { .. })));
}

/// A blob of another store, stored there at `time`.
fn from_elsewhere(mailbox_name: &str, id: usize, time: u64, ends: Option<u64>) -> Carried {
    let id_there = BlobId::new(Stamp::new(time << 12).unwrap(), message(id));
    carried(numbered(mailbox_name, id), id_there, 1, ends.map(Millis))
}

pub(super) async fn blobs_of_one_id_or_stamp_are_all_swept<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let store = B::open(directory.path());
    let of_one_stamp = (0..SWEEP_STEP + 9).map(|id| from_elsewhere("m", id, NOW, None));
    // Whoever offers them chooses the ids.
    let of_one_id = (0..SWEEP_STEP + 9).map(|n| from_elsewhere(&format!("n{n}"), 0, NOW, None));
    let all: Vec<_> = of_one_stamp.chain(of_one_id).collect();
    for blob in &all {
        assert_eq!(store.take_in(blob.clone(), FREE, at(NOW)).await.unwrap(), Taken::Stored);
    }
    let (mut walked, mut after) = (0, None);
    loop {
        let part = store.oldest(after, 1, PageLimit { blobs: 7, bytes: usize::MAX }, at(NOW)).await.unwrap();
        (walked, after) = (walked + part.blobs.len(), part.next);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(walked, all.len());
    // One that is acknowledged takes nothing of the others with it.
    store.ack(mailbox("n0"), vec![message(0)], at(NOW), Duration::ZERO).await.unwrap();
    let swept = store.sweep(expiring(2 * NOW, NOW), usize::MAX).await.unwrap();
    assert_eq!(swept, Sweep { blobs: all.len() - 1, done: 0 });
    assert_eq!(store.usage().await.unwrap(), Holdings::default());
}

pub(super) async fn a_blob_is_not_written_anew_to_last_a_moment_longer<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    // What is stored lasts for ten seconds, of which a thousandth is ten milliseconds.
    let (time, at) = (20_000, expiring(20_001, 10_001));
    let blob = |ends| Carried { body: vec![7; 5_000].into(), ..from_elsewhere("m", 1, time, Some(ends)) };
    let id = blob(time).place.id;
    assert_eq!(store.take_in(blob(time + 100), FREE, at).await.unwrap(), Taken::Stored);
    if B::DURABLE {
        drop(store);
        store = B::open(directory.path());
    }
    for _ in 0..3 {
        let again = store.take_in(blob(time + 110), FREE, at).await.unwrap();
        assert_eq!(again, Taken::Sooner(id, Millis(time + 100)));
    }
    assert_eq!(store.take_in(blob(time + 111), FREE, at).await.unwrap(), Taken::Duplicate(id));
    let held = store.held(vec![(mailbox("m"), message(1))], at).await.unwrap();
    assert_eq!(held, [Held::Waits(id, Millis(time + 111))]);
}

pub(super) async fn a_blob_that_comes_again_from_elsewhere_ends_as_late_as_it_may<B: Backend>() {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    // What is stored at NOW lasts for 500.
    let at = |now: u64| expiring(now, now - 500);
    let take_in = async |store: &dyn Mailboxes, time, ends| {
        let blob = Carried { body: vec![7; 5_000].into(), ..from_elsewhere("m", 1, time, ends) };
        store.take_in(blob, FREE, at(NOW + 10)).await.unwrap()
    };
    let id = from_elsewhere("m", 1, NOW, None).place.id;
    assert_eq!(take_in(&*store, NOW, Some(NOW + 100)).await, Taken::Stored);
    assert_eq!(take_in(&*store, NOW, Some(NOW + 50)).await, Taken::Duplicate(id), "it does not end sooner");
    assert_eq!(take_in(&*store, NOW, Some(NOW + 200)).await, Taken::Duplicate(id));
    if B::DURABLE {
        drop(store);
        store = B::open(directory.path());
    }
    let held = async |store: &dyn Mailboxes, now| store.held(vec![(mailbox("m"), message(1))], at(now)).await.unwrap();
    assert_eq!(held(&*store, NOW + 199).await, [Held::Waits(id, Millis(NOW + 200))]);
    assert_eq!(store.sweep(at(NOW + 199), usize::MAX).await.unwrap(), Sweep::default());
    assert_eq!(read_all(&*store, "m", ALL, at(NOW + 199)).await, [id]);
    assert_eq!(read_all(&*store, "m", ALL, at(NOW + 200)).await, []);
    // One that was stored later elsewhere lasts longer than this can: it says so, and lasts as long as it can.
    assert_eq!(take_in(&*store, NOW + 5, None).await, Taken::Sooner(id, Millis(NOW + 500)));
    assert_eq!(held(&*store, NOW + 499).await, [Held::Waits(id, Millis(NOW + 500))]);
    assert_eq!(store.sweep(at(NOW + 499), usize::MAX).await.unwrap(), Sweep::default());
    assert_eq!(read_all(&*store, "m", ALL, at(NOW + 499)).await, [id]);
    assert_eq!(store.sweep(at(NOW + 500), usize::MAX).await.unwrap(), Sweep { blobs: 1, done: 0 });
}
