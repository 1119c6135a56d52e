//! What older formats wrote otherwise.

use super::layout::{age_key, encode_age, take, take_id, unreadable};
use crate::domain::mailbox::MailboxKey;
use crate::store::StoreError;
use crate::store::stage::{Changes, Family, Scan, Value};

/// Entries that are rewritten at a time.
const STEP: usize = 4096;

/// Up to format 3 the order by age had the mailbox in the value, and so one blob for each id. What that is to be now, of
/// some entries from a key on, and the key to go on from; `None` after the last. It may be done again.
pub(in crate::store) fn ages_by_mailbox(
    database: &dyn Scan,
    from: &[u8],
) -> Result<(Changes, Option<Vec<u8>>), StoreError> {
    let (mut changes, mut seen, mut next) = (Changes::default(), 0, None);
    database.scan(Family::Ages, from, None, &mut |key, value| {
        if seen == STEP {
            next = Some(key.to_vec());
            return Ok(false);
        }
        seen += 1;
        if let Ok(id) = <[u8; 16]>::try_from(key) {
            let read = || Some((take_id(&mut &id[..]).ok()?, MailboxKey(take(&mut &value[..]).ok()?)));
            let (id, mailbox) = read().ok_or_else(|| unreadable("an entry of the order by age"))?;
            let rank = value.get(mailbox.0.len()..).and_then(|rank| rank.try_into().ok());
            let rank = u64::from_be_bytes(rank.ok_or_else(|| unreadable("an entry of the order by age"))?);
            changes.push(Family::Ages, &age_key(id, mailbox), Some(Value::Small(&encode_age(rank))));
            changes.push(Family::Ages, key, None);
        }
        Ok(true)
    })?;
    Ok((changes, next))
}
