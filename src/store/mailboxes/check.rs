//! Whether what is stored of mailboxes makes sense: each entry for itself, and the counts with what they count.

use bytes::Bytes;

use super::entries::{Message, decode_message};
use super::layout::{
    TOTALS, decode_age, decode_blob, decode_blob_key, decode_done_key, decode_end_key, decode_message_key,
    decode_moved_key, decode_share, decode_tally, decode_totals, unreadable,
};
use crate::domain::mailbox::Holdings;
use crate::store::StoreError;
use crate::store::stage::Family;

/// What was read so far. Shown every entry of every family, it tells whether the counts are right.
#[derive(Debug, Default)]
pub(in crate::store) struct Audit {
    /// Blobs.
    pub(in crate::store) blobs: u64,
    /// Mailboxes that hold any.
    pub(in crate::store) mailboxes: u64,
    ages: u64,
    live: u64,
    remembered: u64,
    done: u64,
    ending: u64,
    ends: u64,
    gone: u64,
    moved: u64,
    held: Holdings,
    shares: Holdings,
    charged: u64,
    totals: Option<(Holdings, u64)>,
}

impl Audit {
    /// Takes an entry in.
    ///
    /// # Errors
    /// If it says something that cannot be.
    pub(in crate::store) fn see(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match family {
            Family::Records | Family::RecordsExpiry => {}
            Family::Blobs => {
                decode_blob_key(key)?;
                decode_blob(Bytes::copy_from_slice(value))?;
                self.blobs += 1;
            }
            Family::Messages => {
                decode_message_key(key)?;
                match decode_message(value)? {
                    Message::Live(live) => {
                        self.live += 1;
                        self.ending += u64::from(live.ends.is_some());
                        self.charged = self.charged.saturating_add(live.charge);
                    }
                    Message::Done(_) => self.remembered += 1,
                    Message::Moved(_) => {
                        self.remembered += 1;
                        self.gone += 1;
                    }
                }
            }
            Family::Ages => {
                decode_age(key, value)?;
                self.ages += 1;
            }
            Family::Done => {
                decode_done_key(key)?;
                self.done += 1;
            }
            Family::Usage => self.count(key, value)?,
            Family::Ends => {
                decode_end_key(key)?;
                self.ends += 1;
            }
            Family::Moved => {
                decode_moved_key(key)?;
                self.moved += 1;
            }
        }
        Ok(())
    }

    fn count(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match key.len() {
            _ if key == TOTALS => {
                let totals = decode_totals(value)?;
                self.totals = Some((totals.held, totals.done));
            }
            32 => {
                let tally = decode_tally(value)?;
                self.mailboxes += u64::from(tally.held.blobs > 0);
                add(&mut self.held, tally.held);
                if let Some((_, share)) = tally.first {
                    add(&mut self.shares, share);
                }
            }
            48 => add(&mut self.shares, decode_share(value)?),
            _ => return Err(unreadable("a key of a count")),
        }
        Ok(())
    }

    /// What does not fit together, a line each.
    pub(in crate::store) fn disagreements(&self) -> Vec<String> {
        let (held, done) = self.totals.unwrap_or_default();
        let mut lines = Vec::new();
        for (what, found, counted) in [
            ("blobs in the order by age", self.ages, self.blobs),
            ("messages that wait", self.live, self.blobs),
            ("blobs by the totals", held.blobs, self.blobs),
            ("blobs by the counts of mailboxes", self.held.blobs, self.blobs),
            ("blobs by the counts of senders", self.shares.blobs, self.blobs),
            ("bytes by the counts of mailboxes", self.held.bytes, held.bytes),
            ("bytes by the counts of senders", self.shares.bytes, held.bytes),
            ("bytes by the messages that wait", self.charged, held.bytes),
            ("blobs in the order of their ends", self.ends, self.ending),
            ("messages by mailbox that were moved", self.moved, self.gone),
            ("messages that are done by the totals", done, self.remembered),
            ("messages in the order of forgetting", self.done, self.remembered),
        ] {
            if found != counted {
                lines.push(format!("{what}: {found}, where {counted} are right"));
            }
        }
        lines
    }
}

fn add(sum: &mut Holdings, more: Holdings) {
    sum.blobs = sum.blobs.saturating_add(more.blobs);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
}
