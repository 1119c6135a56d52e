//! A blob as the frame that carries it to another store.

use bytes::Bytes;

use crate::cluster::proto::MailMoving;
use crate::domain::clock::Millis;
use crate::domain::digest;
use crate::domain::mailbox::{BlobId, SenderKey, Stamp};
use crate::mailbox::peers::convert;
use crate::store::{Carried, Moment};

/// How far a blob's time may be ahead of the clock of whoever takes it in, in milliseconds.
const MAX_LEAD_MILLIS: u64 = 60_000;

/// The frame of a blob that will have moved so often; it ends when it would here.
pub fn moving(blob: &Carried, hops: u8, at: Moment) -> MailMoving {
    let ends = blob.ends.unwrap_or_else(|| at.end_of(blob.place.id.time()));
    let mut moving = MailMoving {
        mailbox: convert::mailbox(&blob.mailbox),
        place: Some(convert::place(blob.place)),
        sender: Bytes::copy_from_slice(&blob.from.0),
        header: blob.header.clone(),
        receipt: blob.receipt.clone(),
        body: blob.body.clone(),
        delivered: blob.delivered,
        ends_ms: ends.0,
        hops: hops.into(),
        sha256: Bytes::new(),
        // Said inside a cluster only, by whoever knows.
        client_id: String::new(),
        device_id: String::new(),
    };
    moving.sha256 = Bytes::copy_from_slice(&sum(&moving));
    moving
}

/// The blob of a frame that moved at most so often, as it is to be kept here; `None` if it is not to be: damaged, dated
/// far ahead, or moved too often.
///
/// What is dated ahead is dated now instead, behind the last that was, so that those of one batch keep their order:
/// whatever is put here stands behind all that is here, so its time would be every later blob's.
pub fn carried(moving: MailMoving, most_hops: u8, at: Moment, last: &mut Stamp) -> Option<Carried> {
    if moving.sha256[..] != sum(&moving) {
        return None;
    }
    let mut place = convert::place_from(moving.place.as_ref()?)?;
    let hops = u8::try_from(moving.hops).ok().filter(|hops| *hops <= most_hops)?;
    if place.id.time().0 > at.now.0.saturating_add(MAX_LEAD_MILLIS) {
        return None;
    }
    if place.id.time() > at.now {
        *last = last.next(at.now)?;
        place.id = BlobId::new(*last, place.id.message());
    }
    // What ends later than everything else of its age does not need an end of its own.
    let ends = Some(Millis(moving.ends_ms)).filter(|ends| *ends < at.end_of(place.id.time()));
    Some(Carried {
        mailbox: convert::mailbox_from(&moving.mailbox)?,
        place,
        from: SenderKey(moving.sender[..].try_into().ok()?),
        delivered: moving.delivered,
        hops,
        ends,
        header: moving.header,
        receipt: moving.receipt,
        body: moving.body,
    })
}

fn sum(moving: &MailMoving) -> [u8; 32] {
    let place = moving.place.clone().unwrap_or_default();
    digest(&[
        b"moving",
        &moving.mailbox,
        &place.rank.to_be_bytes(),
        &place.id,
        &moving.sender,
        &moving.header,
        &moving.receipt,
        &moving.body,
        &[u8::from(moving.delivered)],
        &moving.ends_ms.to_be_bytes(),
        &moving.hops.to_be_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::domain::mailbox::{MailboxKey, MessageKey, Place};

    const AT: Moment = Moment { now: Millis(1_000_000), horizon: Millis(400_000) };

    fn blob(millis: u64) -> Carried {
        let id = BlobId::new(Stamp::new(millis << 12).unwrap(), MessageKey::of("s", "r", "m"));
        Carried {
            mailbox: MailboxKey::blobs("r"),
            place: Place { rank: 0, id },
            from: SenderKey([7; 16]),
            delivered: true,
            hops: 0,
            ends: None,
            header: "header".into(),
            receipt: "receipt".into(),
            body: "body".into(),
        }
    }

    fn taken(moving: MailMoving, most_hops: u8, at: Moment) -> Option<Carried> {
        carried(moving, most_hops, at, &mut Stamp::default())
    }

    #[test]
    fn a_blob_comes_as_it_went_and_its_end_with_it() {
        let sent = blob(900_000);
        assert_eq!(taken(moving(&sent, 1, AT), 1, AT), Some(Carried { hops: 1, ..sent.clone() }));
        // Elsewhere it would stay longer, or less long.
        let (long, short) = (Moment { horizon: Millis(0), ..AT }, Moment { horizon: Millis(800_000), ..AT });
        let ends = |at| taken(moving(&sent, 1, AT), 1, at).unwrap().ends;
        assert_eq!((ends(long), ends(short)), (Some(Millis(1_500_000)), None));
    }

    #[test]
    fn one_that_moved_too_often_or_is_dated_ahead_is_not_taken() {
        assert_eq!(taken(moving(&blob(900_000), 2, AT), 1, AT), None);
        assert_eq!(taken(moving(&blob(1_060_001), 1, AT), 1, AT), None);
    }

    #[test]
    fn those_that_are_dated_ahead_are_dated_now_in_their_order_and_end_no_later_than_others_of_now() {
        let mut last = Stamp::default();
        let mut place = |millis| carried(moving(&blob(millis), 1, AT), 1, AT, &mut last).unwrap().place.id;
        let (past, now, ahead, far) = (place(999_999), place(1_000_000), place(1_000_001), place(1_060_000));
        assert_eq!((past, now), (blob(999_999).place.id, blob(1_000_000).place.id));
        assert!([ahead, far].iter().all(|id| id.time() == AT.now && id.message() == past.message()));
        assert!(ahead < far);
        let ends = |millis| {
            let sent = Carried { ends: Some(Millis(millis)), ..blob(1_060_000) };
            taken(moving(&sent, 1, AT), 1, AT).unwrap().ends
        };
        assert_eq!([ends(1_599_999), ends(1_600_000)], [Some(Millis(1_599_999)), None]);
    }

    #[test]
    fn whichever_byte_is_damaged_it_is_noticed() {
        let whole = moving(&blob(900_000), 1, AT).encode_to_vec();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let taken = MailMoving::decode(&damaged[..]).ok().and_then(|moving| taken(moving, 1, AT));
            assert_eq!(taken, None, "byte {at}");
        }
    }
}
