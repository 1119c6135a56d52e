//! Any interleaving of calls, expiry and restarts, against the model.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::model::{Model, blob, carried};
use super::{Backend, FREE, mailbox, message};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BLOB_OVERHEAD_BYTES, BlobId, MailboxKey, MessageKey, Place, Quota, Stamp};
use crate::store::{Carried, Elsewhere, Mailboxes, Moment, Moving, NewBlob, PageLimit};

#[derive(Debug, Clone)]
enum Step {
    Put(NewBlob, Quota, Moment),
    /// Handed in at once: they share a group commit where there is one.
    Together(Vec<NewBlob>, Moment),
    /// After the place at this index of all that are stored, and any other.
    Page(MailboxKey, Option<usize>, PageLimit, Moment),
    Get(MailboxKey, usize, Moment),
    Ack(MailboxKey, Vec<MessageKey>, Moment, Duration),
    Known(MailboxKey, Vec<MessageKey>, Moment),
    MarkDelivered(MailboxKey, Vec<MessageKey>, Moment),
    Purge(MailboxKey, Millis, Moment, Duration),
    Sweep(Moment, usize),
    TakeIn(Carried, Moment),
    /// The blobs at these indexes of all that are stored, and the id that they have there if it is another.
    Moved(Vec<usize>, Option<u64>, Moment),
    Settle(MailboxKey, Vec<MessageKey>, Moment, Duration),
    Oldest(u8, usize, Moment),
    Reopen,
}

/// Few mailboxes, messages, senders and moments, so that steps meet.
fn a_mailbox() -> impl Strategy<Value = MailboxKey> {
    prop_oneof![Just(mailbox("a")), Just(mailbox("b"))]
}

fn a_message() -> impl Strategy<Value = MessageKey> {
    (0_usize..5).prop_map(message)
}

fn messages() -> impl Strategy<Value = Vec<MessageKey>> {
    vec(a_message(), 0..4)
}

fn millis() -> impl Strategy<Value = Millis> {
    (0_u64..10).prop_map(Millis)
}

fn moment() -> impl Strategy<Value = Moment> {
    (0_u64..10, 0_u64..5).prop_map(|(now, horizon)| Moment { now: Millis(now), horizon: Millis(horizon) })
}

fn memory() -> impl Strategy<Value = Duration> {
    (0_u64..5).prop_map(Duration::from_millis)
}

fn a_blob() -> impl Strategy<Value = NewBlob> {
    // 5,000 bytes lie in a file of their own.
    let body = prop_oneof![4 => 0_usize..3, 1 => Just(5_000)];
    (a_mailbox(), a_message(), 0_u8..3, 0_u64..3, body)
        .prop_map(|(mailbox, message, from, rank, body)| blob(mailbox, message, from, rank, vec![from; body].into()))
}

fn a_carried_blob() -> impl Strategy<Value = Carried> {
    // Few stamps, so that ids meet too.
    let stamp = prop_oneof![0_u64..12 << 12, (0_u64..12).prop_map(|millis| millis << 12)];
    (a_blob(), stamp, 0_u8..2, prop::option::of((1_u64..10).prop_map(Millis))).prop_map(|(new, stamp, hops, ends)| {
        let id = BlobId::new(Stamp::new(stamp).unwrap(), new.message);
        carried(new, id, hops, ends)
    })
}

fn quota() -> impl Strategy<Value = Quota> {
    let blobs = || prop::option::of(0_u64..5);
    let bytes = || prop::option::of((0_u64..5).prop_map(|n| n * (BLOB_OVERHEAD_BYTES + 1)));
    let total = prop_oneof![3 => Just(u64::MAX), 1 => (0_u64..8).prop_map(|n| n * BLOB_OVERHEAD_BYTES)];
    (blobs(), bytes(), blobs(), bytes(), total).prop_map(|(blobs, bytes, sender_blobs, sender_bytes, total_bytes)| {
        Quota { blobs, bytes, sender_blobs, sender_bytes, total_bytes }
    })
}

fn limit() -> impl Strategy<Value = PageLimit> {
    (1_usize..4, prop_oneof![Just(0), Just(3), Just(usize::MAX)]).prop_map(|(blobs, bytes)| PageLimit { blobs, bytes })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (a_blob(), quota(), moment()).prop_map(|(blob, quota, at)| Step::Put(blob, quota, at)),
        6 => (vec(a_blob(), 0..5), moment()).prop_map(|(blobs, at)| Step::Together(blobs, at)),
        4 => (a_mailbox(), prop::option::of(any::<usize>()), limit(), moment())
            .prop_map(|(mailbox, after, limit, at)| Step::Page(mailbox, after, limit, at)),
        2 => (a_mailbox(), any::<usize>(), moment()).prop_map(|(mailbox, which, at)| Step::Get(mailbox, which, at)),
        4 => (a_mailbox(), messages(), moment(), memory())
            .prop_map(|(mailbox, messages, at, remember)| Step::Ack(mailbox, messages, at, remember)),
        3 => (a_mailbox(), messages(), moment())
            .prop_map(|(mailbox, messages, at)| Step::Known(mailbox, messages, at)),
        3 => (a_mailbox(), messages(), moment())
            .prop_map(|(mailbox, messages, at)| Step::MarkDelivered(mailbox, messages, at)),
        2 => (a_mailbox(), millis(), moment(), memory())
            .prop_map(|(mailbox, until, at, remember)| Step::Purge(mailbox, until, at, remember)),
        3 => (moment(), 0_usize..4).prop_map(|(at, limit)| Step::Sweep(at, limit)),
        4 => (a_carried_blob(), moment()).prop_map(|(blob, at)| Step::TakeIn(blob, at)),
        4 => (vec(any::<usize>(), 0..3), prop::option::of(0_u64..12 << 12), moment())
            .prop_map(|(which, there, at)| Step::Moved(which, there, at)),
        2 => (a_mailbox(), messages(), moment(), memory())
            .prop_map(|(mailbox, messages, at, remember)| Step::Settle(mailbox, messages, at, remember)),
        2 => (0_u8..2, 1_usize..4, moment()).prop_map(|(hops, page, at)| Step::Oldest(hops, page, at)),
        1 => Just(Step::Reopen),
    ]
}

async fn play<B: Backend>(steps: &[Step]) {
    let directory = TempDir::new().unwrap();
    let mut store = B::open(directory.path());
    let mut model = Model::default();
    for step in steps {
        let places = model.places();
        let place = |which: usize| (!places.is_empty()).then(|| places[which % places.len()].1);
        match step.clone() {
            Step::Put(blob, quota, at) => {
                assert_eq!(store.put(blob.clone(), quota, at).await.unwrap(), model.put(blob, quota, at), "{step:?}");
            }
            Step::Together(blobs, at) => {
                let answers = join_all(blobs.iter().map(|blob| store.put(blob.clone(), FREE, at))).await;
                for (blob, answer) in blobs.into_iter().zip(answers) {
                    assert_eq!(answer.unwrap(), model.put(blob, FREE, at), "{step:?}");
                }
            }
            Step::Page(mailbox, after, limit, at) => {
                let after: Option<Place> = after.and_then(place);
                let page = store.page(mailbox, after, limit, at).await.unwrap();
                assert_eq!(page, model.page(mailbox, after, limit, at), "{step:?}");
            }
            Step::Get(mailbox, which, at) => {
                let Some(place) = place(which) else { continue };
                let got = store.get(mailbox, place, at).await.unwrap();
                assert_eq!(got, model.get(mailbox, place, at), "{step:?}");
            }
            Step::Ack(mailbox, messages, at, remember) => {
                let acked = store.ack(mailbox, messages.clone(), at, remember).await.unwrap();
                assert_eq!(acked, model.ack(mailbox, &messages, at, remember), "{step:?}");
            }
            Step::Known(mailbox, messages, at) => {
                let known = store.known(mailbox, messages.clone(), at).await.unwrap();
                assert_eq!(known, model.known(mailbox, &messages, at), "{step:?}");
                let of = messages.iter().map(|message| (mailbox, *message)).collect();
                assert_eq!(store.held(of, at).await.unwrap(), model.held_of(mailbox, &messages, at), "{step:?}");
            }
            Step::MarkDelivered(mailbox, messages, at) => {
                let marked = store.mark_delivered(mailbox, messages.clone(), at).await.unwrap();
                assert_eq!(marked, model.mark_delivered(mailbox, &messages, at), "{step:?}");
            }
            Step::Purge(mailbox, until, at, remember) => {
                let purged = store.purge(mailbox, until, at, remember).await.unwrap();
                assert_eq!(purged, model.purge(mailbox, until, at, remember), "{step:?}");
            }
            Step::Sweep(at, limit) => {
                assert_eq!(store.sweep(at, limit).await.unwrap(), model.sweep(at, limit), "{step:?}");
            }
            Step::TakeIn(blob, at) => {
                assert_eq!(store.take_in(blob.clone(), FREE, at).await.unwrap(), model.take_in(blob, at), "{step:?}");
            }
            Step::Moved(which, there, at) => {
                let of = |which: &usize| (!places.is_empty()).then(|| places[which % places.len()]);
                let moving = which.iter().filter_map(of).map(|(mailbox, place)| {
                    let there = there.map(|stamp| BlobId::new(Stamp::new(stamp).unwrap(), place.id.message()));
                    Moving { mailbox, id: place.id, there: there.unwrap_or(place.id) }
                });
                let (moving, to): (Vec<_>, _) = (moving.collect(), Bytes::from_static(b"there"));
                let left = store.moved(moving.clone(), to.clone(), at).await.unwrap();
                assert_eq!(left, model.moved(&moving, &to, at), "{step:?}");
                for of in [None, Some(mailbox("a"))] {
                    let elsewhere = walk_elsewhere(&*store, of, at).await;
                    assert_eq!(elsewhere, model.elsewhere(of, at), "{step:?}");
                }
            }
            Step::Settle(mailbox, messages, at, remember) => {
                let messages: Vec<_> = messages.into_iter().map(|message| (mailbox, message)).collect();
                let settled = store.settle(messages.clone(), at, remember).await.unwrap();
                assert_eq!(settled, model.settle(&messages, at, remember), "{step:?}");
            }
            Step::Oldest(hops, page, at) => {
                let limit = PageLimit { blobs: page, bytes: usize::MAX };
                let (mut blobs, mut after) = (Vec::new(), None);
                loop {
                    let part = store.oldest(after, hops, limit, at).await.unwrap();
                    assert!(part.blobs.len() <= page);
                    blobs.extend(part.blobs);
                    after = part.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(blobs, model.oldest(hops, at).blobs, "{step:?}");
            }
            Step::Reopen if B::DURABLE => {
                model.reopened();
                drop(store);
                store = B::open(directory.path());
            }
            Step::Reopen => {}
        }
        assert_counts(&*store, &model, step).await;
    }
    // What is left shows in full, and nothing else.
    let (all, early) = (PageLimit { blobs: 100, bytes: usize::MAX }, Moment { now: Millis(0), horizon: Millis(0) });
    for mailbox in [mailbox("a"), mailbox("b")] {
        let page = store.page(mailbox, None, all, early).await.unwrap();
        assert_eq!(page, model.page(mailbox, None, all, early));
    }
}

async fn walk_elsewhere(store: &dyn Mailboxes, of: Option<MailboxKey>, at: Moment) -> Vec<Elsewhere> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let part = store.elsewhere(of, after, 2, at).await.unwrap();
        let Some(last) = part.last() else { return all };
        after = Some(last.cursor());
        all.extend(part);
    }
}

async fn assert_counts(store: &dyn Mailboxes, model: &Model, step: &Step) {
    assert_eq!(store.usage().await.unwrap(), model.usage(), "after {step:?}");
    for mailbox in [mailbox("a"), mailbox("b")] {
        assert_eq!(store.holdings(mailbox).await.unwrap(), model.holdings(mailbox), "after {step:?}");
    }
}

/// Any script of steps goes as the model says.
pub(super) fn any_script_goes_as_the_model_says<B: Backend>() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = ProptestConfig { cases: B::SCRIPTS, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..60))| runtime.block_on(play::<B>(&steps)));
}
