//! The contract of [`Mailboxes`] in code: any script goes as a plain model says, and each promise by itself.

mod model;
mod promises;
mod scripts;

use std::path::Path;
use std::sync::Arc;

use crate::domain::clock::Millis;
use crate::domain::mailbox::{MailboxKey, MessageKey, Quota};
use crate::store::{Mailboxes, MemoryMailboxes, Moment, RocksStore};

/// No limit but what everything holds.
const FREE: Quota = Quota { blobs: None, bytes: None, sender_blobs: None, sender_bytes: None, total_bytes: u64::MAX };

/// A backend under test.
trait Backend {
    /// Whether a store opened again has what it had.
    const DURABLE: bool;
    /// How many scripts to play: fewer where opening a store syncs files.
    const SCRIPTS: u32;

    fn open(directory: &Path) -> Arc<dyn Mailboxes>;
}

struct Memory;

impl Backend for Memory {
    const DURABLE: bool = false;
    const SCRIPTS: u32 = 512;

    fn open(_: &Path) -> Arc<dyn Mailboxes> {
        Arc::new(MemoryMailboxes::new())
    }
}

struct Rocks;

impl Backend for Rocks {
    const DURABLE: bool = true;
    const SCRIPTS: u32 = 32;

    fn open(directory: &Path) -> Arc<dyn Mailboxes> {
        Arc::new(RocksStore::open(directory).unwrap())
    }
}

fn mailbox(name: &str) -> MailboxKey {
    MailboxKey::blobs(name)
}

fn message(id: usize) -> MessageKey {
    MessageKey::of("sender", "recipient", &id.to_string())
}

/// A moment at which nothing stored after 1970 has expired.
fn at(now: u64) -> Moment {
    Moment { now: Millis(now), horizon: Millis(0) }
}

/// Every test of the contract, for one backend.
macro_rules! contract {
    ($name:ident, $backend:ty, [$($promise:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            #[test]
            fn any_script_goes_as_the_model_says() {
                scripts::any_script_goes_as_the_model_says::<$backend>();
            }

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    promises::$promise::<$backend>().await;
                }
            )*
        }
    };
    ($($name:ident: $backend:ty),* $(,)?) => {
        $(
            contract!($name, $backend, [
                of_many_who_put_the_same_message_one_stores_it,
                a_quota_holds_whoever_puts_at_the_same_time,
                a_message_is_marked_once_whoever_asks,
                a_reader_who_goes_on_after_what_he_saw_misses_nothing,
                what_has_expired_in_a_mailbox_makes_room_in_it,
                ids_grow_over_a_restart_with_a_clock_that_ran_back,
                a_deep_mailbox_is_swept_and_purged_in_steps,
                an_acknowledged_message_is_forgotten_when_its_time_is_over,
                of_what_was_moved_a_purge_is_owed_until_it_is_settled,
                a_page_holds_one_blob_however_large,
                what_is_too_large_is_refused_by_name,
                blobs_of_one_id_or_stamp_are_all_swept,
                a_blob_is_not_written_anew_to_last_a_moment_longer,
                a_blob_that_comes_again_from_elsewhere_ends_as_late_as_it_may,
            ]);
        )*
    };
}

contract!(memory: Memory, rocks: Rocks);
