//! What the reserve of the disk is kept from, where no disk has to fill up for it.

use tempfile::TempDir;

use super::{FREE, mailbox, message};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, Full, Place, SenderKey, Stamp};
use crate::observe::metrics::StoreMetrics;
use crate::store::{Carried, Held, Mailboxes, Moment, RocksOptions, RocksStore, Taken};

/// What is stored lasts for a thousand seconds.
const AT: Moment = Moment { now: Millis(2_000_000), horizon: Millis(1_000_000) };

/// A blob of another store.
fn blob(number: usize, ends: u64) -> Carried {
    let id = BlobId::new(Stamp::new(2_000_000 << 12).unwrap(), message(number));
    Carried {
        mailbox: mailbox(),
        place: Place { rank: 0, id },
        from: SenderKey([1; 16]),
        delivered: false,
        hops: 1,
        ends: Some(Millis(ends)),
        header: "header".into(),
        receipt: "receipt".into(),
        body: vec![7; 10_000].into(),
    }
}

#[tokio::test]
async fn within_it_no_blob_is_written_anew_to_last_longer() {
    let directory = TempDir::new().unwrap();
    let (first, longer) = (blob(1, 2_100_000), blob(1, 2_200_000));
    let (id, held) = (first.place.id, vec![(mailbox(), message(1))]);
    let store = RocksStore::open(directory.path()).unwrap();
    assert_eq!(store.take_in(first, FREE, AT).await.unwrap(), Taken::Stored);
    drop(store);

    let no_room = RocksOptions { reserve_bytes: u64::MAX, ..RocksOptions::DEFAULT };
    let store = RocksStore::open_with(directory.path(), no_room, StoreMetrics::default()).unwrap();
    assert_eq!(store.take_in(blob(2, 2_100_000), FREE, AT).await.unwrap(), Taken::Refused(Full::Disk));
    assert_eq!(store.take_in(longer.clone(), FREE, AT).await.unwrap(), Taken::Sooner(id, Millis(2_100_000)));
    assert_eq!(store.held(held.clone(), AT).await.unwrap(), [Held::Waits(id, Millis(2_100_000))]);
    drop(store);

    let store = RocksStore::open(directory.path()).unwrap();
    assert_eq!(store.take_in(longer, FREE, AT).await.unwrap(), Taken::Duplicate(id));
    assert_eq!(store.held(held, AT).await.unwrap(), [Held::Waits(id, Millis(2_200_000))]);
}
