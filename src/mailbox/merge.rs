//! Pages of several holders as one, in the order of their places.

use std::collections::VecDeque;

use crate::store::{Page, PageLimit, StoredBlob};

/// What the holders of one mailbox have given of it so far. A holder is a number, counted from 0.
pub(super) struct Merge {
    feeds: Vec<Feed>,
}

struct Feed {
    page: VecDeque<StoredBlob>,
    /// Whether more may follow what is there.
    more: bool,
}

impl Merge {
    /// Of so many holders, none of which has been heard.
    pub fn new(holders: usize) -> Self {
        Self { feeds: (0..holders).map(|_| Feed { page: VecDeque::new(), more: true }).collect() }
    }

    /// The holders whose next page is needed.
    pub fn hungry(&self) -> impl Iterator<Item = usize> {
        self.feeds.iter().enumerate().filter(|(_, feed)| feed.more && feed.page.is_empty()).map(|(holder, _)| holder)
    }

    /// The next page of a holder.
    pub fn feed(&mut self, holder: usize, page: Page) {
        if let Some(feed) = self.feeds.get_mut(holder) {
            // One that says that more follows, and gives nothing, has nothing.
            feed.more = page.more && !page.blobs.is_empty();
            feed.page.extend(page.blobs);
        }
    }

    /// Nothing more is expected of a holder.
    pub fn leave_out(&mut self, holder: usize) {
        if let Some(feed) = self.feeds.get_mut(holder) {
            feed.more = false;
        }
    }

    /// The holders of which more may follow, or is left.
    pub fn unfinished(&self) -> impl Iterator<Item = usize> {
        self.feeds.iter().enumerate().filter(|(_, feed)| feed.more || !feed.page.is_empty()).map(|(holder, _)| holder)
    }

    /// What comes next, of which holder: no more than the limit, and nothing that a page not yet there might come
    /// before. Empty if nothing is left, or a page is missing.
    pub fn batch(&mut self, limit: PageLimit) -> Vec<(usize, StoredBlob)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < limit.blobs && bytes < limit.bytes && self.hungry().next().is_none() {
            let heads = self.feeds.iter().enumerate();
            let first = heads.filter_map(|(n, feed)| Some((feed.page.front()?.place, n))).min();
            let Some((_, holder)) = first else { break };
            if let Some(blob) = self.feeds[holder].page.pop_front() {
                bytes += blob.header.len() + blob.body.len();
                batch.push((holder, blob));
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::mailbox::{BlobId, MessageKey, Place, Stamp};

    fn blob(stamp: u64, holder: usize) -> StoredBlob {
        let message = MessageKey::of("s", "r", &format!("{stamp} {holder}"));
        let id = BlobId::new(Stamp::new(stamp).unwrap(), message);
        StoredBlob { place: Place { rank: 0, id }, header: "h".into(), body: "b".into() }
    }

    proptest! {
        #[test]
        fn everything_comes_once_and_in_order(
            mut holders in proptest::collection::vec(proptest::collection::btree_set(0..50_u64, 0..20), 1..4),
            page in 1..6_usize, blobs in 1..6_usize,
        ) {
            let limit = PageLimit { blobs, bytes: usize::MAX };
            let all: usize = holders.iter().map(std::collections::BTreeSet::len).sum();
            let (mut merge, mut out) = (Merge::new(holders.len()), Vec::new());
            loop {
                let hungry: Vec<_> = merge.hungry().collect();
                prop_assert!(hungry.is_empty() || merge.batch(limit).is_empty());
                for holder in hungry {
                    let left = &mut holders[holder];
                    let taken: Vec<_> = (0..page).filter_map(|_| left.pop_first()).map(|s| blob(s, holder)).collect();
                    merge.feed(holder, Page { blobs: taken, more: !left.is_empty() });
                }
                let batch = merge.batch(limit);
                prop_assert!(batch.len() <= blobs);
                if batch.is_empty() && merge.hungry().next().is_none() {
                    break;
                }
                out.extend(batch);
            }
            prop_assert_eq!(out.len(), all);
            prop_assert!(out.is_sorted_by_key(|(_, blob)| blob.place));
        }
    }

    #[test]
    fn who_is_left_out_holds_up_nobody_and_keeps_what_it_gave() {
        let mut merge = Merge::new(2);
        merge.feed(0, Page { blobs: vec![blob(1, 0), blob(3, 0)], more: true });
        merge.feed(1, Page { blobs: vec![blob(2, 1)], more: true });
        let all = PageLimit { blobs: 10, bytes: 1000 };
        assert_eq!(merge.batch(all).iter().map(|(holder, _)| *holder).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(merge.hungry().collect::<Vec<_>>(), [1]);
        assert!(merge.batch(all).is_empty());
        merge.leave_out(1);
        assert_eq!(merge.batch(all).len(), 1);
        assert_eq!(merge.unfinished().collect::<Vec<_>>(), [0]);
        merge.feed(0, Page { blobs: Vec::new(), more: true });
        assert_eq!((merge.hungry().count(), merge.unfinished().count()), (0, 0));
    }
}
