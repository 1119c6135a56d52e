//! What is written anew of what older formats wrote.
//!
//! Up to format 3 the order by age had the mailbox in the value, and so one entry for all blobs of one id: of those that
//! have none, nothing in it tells. So it is made anew from what is known of the messages.

use super::entries::{Message, decode_message};
use super::layout::{age_key, decode_moved_key, encode_age};
use crate::store::StoreError;
use crate::store::stage::{Changes, Family, Scan, Value};

/// Entries that are looked at at a time.
const STEP: usize = 4096;

/// Bytes of a key of the order by age up to format 3: an id.
const OLD_AGE_KEY_BYTES: usize = 16;

/// What is to be written anew, of some entries from a key on, and the key to go on from; `None` after the last. It may be
/// done again.
pub(in crate::store) type Rebuild = fn(&dyn Scan, &[u8]) -> Result<(Changes, Option<Vec<u8>>), StoreError>;

/// All that is to be written anew, in this order.
pub(in crate::store) const REBUILDS: &[Rebuild] = &[ages_of_messages, no_old_ages];

/// An entry in the order by age for each blob that waits.
fn ages_of_messages(database: &dyn Scan, from: &[u8]) -> Result<(Changes, Option<Vec<u8>>), StoreError> {
    step(database, Family::Messages, from, |changes, key, value| {
        match (decode_moved_key(key), decode_message(value)) {
            (Ok((mailbox, _)), Ok(Message::Live(live))) => {
                let (place, rank) = (live.place, encode_age(live.place.rank));
                changes.push(Family::Ages, &age_key(place.id, mailbox), Some(Value::Small(&rank)));
            }
            (Ok(_), Ok(Message::Done(_) | Message::Moved(_))) => {}
            // It is as damaged as it was, and whoever reads it is told so; the others are not to wait for that.
            (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "an entry was left as it is"),
        }
    })
}

/// None of the entries that it had before.
fn no_old_ages(database: &dyn Scan, from: &[u8]) -> Result<(Changes, Option<Vec<u8>>), StoreError> {
    step(database, Family::Ages, from, |changes, key, _| {
        if key.len() == OLD_AGE_KEY_BYTES {
            changes.push(Family::Ages, key, None);
        }
    })
}

fn step(
    database: &dyn Scan,
    family: Family,
    from: &[u8],
    mut see: impl FnMut(&mut Changes, &[u8], &[u8]),
) -> Result<(Changes, Option<Vec<u8>>), StoreError> {
    let (mut changes, mut seen, mut next) = (Changes::default(), 0, None);
    database.scan(family, from, None, &mut |key, value| {
        if seen == STEP {
            next = Some(key.to_vec());
            return Ok(false);
        }
        seen += 1;
        see(&mut changes, key, value);
        Ok(true)
    })?;
    Ok((changes, next))
}
