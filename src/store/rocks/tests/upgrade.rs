//! Stores of older formats.

use std::path::Path;

use tempfile::TempDir;

use super::{AT, FREE, mailbox, message, put};
use crate::domain::mailbox::{BlobId, MailboxKey, Place, SenderKey, Stamp};
use crate::store::mailboxes::REBUILDS;
use crate::store::rocks::database::Database;
use crate::store::rocks::open::{OLDER, UPGRADING, open, open_as_it_is, upgrade};
use crate::store::stage::Family;
use crate::store::{
    Carried, Mailboxes, PageLimit, Put, Record, Records, RocksOptions, RocksStore, StoreError, Taken, verify,
};

const OURS: &[u8] = b"4";

fn database(path: &Path) -> Database {
    open(path, &RocksOptions::DEFAULT).unwrap()
}

/// The mailboxes of all blobs, in the order of their ages.
async fn by_age(path: &Path) -> Vec<MailboxKey> {
    let store = RocksStore::open(path).unwrap();
    let oldest = store.oldest(None, 1, PageLimit { blobs: 10, bytes: usize::MAX }, AT).await.unwrap();
    oldest.blobs.iter().map(|blob| blob.mailbox).collect()
}

/// A closed store of format 3 with three messages, two of which have one id: so one of these is not in the order by age.
async fn of_format_3() -> (TempDir, Vec<MailboxKey>) {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).unwrap();
    let twin = BlobId::new(Stamp::new(900 << 12).unwrap(), message(7));
    let mut mailboxes = [MailboxKey::blobs("x"), MailboxKey::blobs("y")];
    mailboxes.sort_by_key(|mailbox| mailbox.0);
    for mailbox in mailboxes {
        let place = Place { rank: 0, id: twin };
        let (header, receipt, body) = ("header".into(), "receipt".into(), "body".into());
        let from = SenderKey([1; 16]);
        let blob = Carried { mailbox, place, from, delivered: false, hops: 1, ends: None, header, receipt, body };
        assert_eq!(store.take_in(blob, FREE, AT).await.unwrap(), Taken::Stored);
    }
    assert!(matches!(put(&store, 1, vec![1]).await, Ok(Put::Stored(_))));
    assert!(matches!(put(&store, 2, vec![1]).await, Ok(Put::Stored(_))));
    store.ack(mailbox(), vec![message(2)], AT, std::time::Duration::from_secs(60)).await.unwrap();
    drop(store);
    let database = database(directory.path());
    let ages = database.rocks().cf_handle(Family::Ages.name()).unwrap();
    let all: Vec<_> = database.rocks().iterator_cf(ages, rocksdb::IteratorMode::Start).map(Result::unwrap).collect();
    assert_eq!(all.len(), 3);
    for (key, rank) in &all {
        // The id, and mailbox and rank.
        database.rocks().put_cf(ages, &key[..16], [&key[16..], &rank[..]].concat()).unwrap();
        database.rocks().delete_cf(ages, key).unwrap();
    }
    database.set_format(b"3");
    (directory, vec![mailboxes[0], mailboxes[1], mailbox()])
}

#[tokio::test]
async fn what_an_older_format_has_is_kept() {
    for format in OLDER.into_iter().chain([UPGRADING]) {
        let directory = TempDir::new().unwrap();
        let store = RocksStore::open(directory.path()).unwrap();
        Records::put(&store, "k".into(), Record::lasting("v"), AT.now).await.unwrap();
        drop(store);
        database(directory.path()).set_format(format);
        let store = RocksStore::open(directory.path()).unwrap();
        assert_eq!(Records::get(&store, b"k", AT.now).await.unwrap().unwrap().value, "v");
        drop(store);
        assert_eq!(database(directory.path()).format().unwrap(), OURS);
    }
}

#[tokio::test]
async fn a_blob_that_was_not_in_the_order_by_age_is_in_it_again() {
    let (directory, mailboxes) = of_format_3().await;
    assert_eq!(by_age(directory.path()).await, mailboxes);
    assert_eq!(verify(directory.path(), |_| true).unwrap().damage, Vec::<String>::new());
}

#[tokio::test]
async fn an_upgrade_that_is_broken_off_is_no_format_and_begins_again() {
    for before in 0..=REBUILDS.len() {
        let (directory, mailboxes) = of_format_3().await;
        let half = open_as_it_is(directory.path(), &RocksOptions::DEFAULT).unwrap();
        let mut rebuilds = REBUILDS[..before].to_vec();
        rebuilds.push(|_, _| Err(StoreError::Stopped));
        assert_eq!(upgrade(&half, directory.path(), &rebuilds), Err(StoreError::Stopped));
        assert_eq!(half.format().unwrap(), UPGRADING);
        drop(half);
        assert_eq!(verify(directory.path(), |_| true).unwrap().damage.len(), 1, "it is of no format");
        assert_eq!(by_age(directory.path()).await, mailboxes);
        assert_eq!(verify(directory.path(), |_| true).unwrap().damage, Vec::<String>::new());
    }
}
