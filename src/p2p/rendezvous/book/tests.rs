//! What the book of registrations promises.

use std::collections::HashMap as Model;

use proptest::prelude::*;

use super::*;
use std::num::NonZeroU32;

const LIMITS: RendezvousLimits = RendezvousLimits {
    per_peer: 2,
    per_namespace: 2,
    bytes: 10_000,
    requests_per_minute: NonZeroU32::MAX,
    tracked_addresses: 1,
    lists_all: true,
};

fn at(namespace: &str, peer: PeerId, stamp: u64) -> Registration {
    Registration {
        namespace: namespace.into(),
        peer,
        record: vec![1; 100].into(),
        ttl: 7200,
        until: Millis(stamp + 7_200_000),
        stamp: Epoch(stamp << 16),
        form: 0,
        account: None,
    }
}

/// Late enough for everything to have settled.
const LATE: Millis = Millis(1 << 40);

fn stamps(page: &[Arc<Registration>]) -> Vec<u64> {
    page.iter().map(|registration| registration.stamp.0 >> 16).collect()
}

#[test]
fn the_newest_come_first_and_whoever_asks_again_gets_the_rest() {
    let mut book = Book::default();
    for stamp in 1..=5 {
        book.put(at("x", PeerId::random(), stamp));
    }
    book.put(at("y", PeerId::random(), 9));
    let (first, cookie) = book.page(Some("x"), 0, None, 2, LATE);
    assert_eq!(stamps(&first), [5, 4]);
    book.put(at("x", PeerId::random(), 6));
    let (second, cookie) = book.page(Some("x"), 0, Some(cookie), 2, LATE);
    assert_eq!(stamps(&second), [6, 3]);
    let (third, cookie) = book.page(Some("x"), 0, Some(cookie), 9, LATE);
    assert_eq!(stamps(&third), [2, 1]);
    let (none, cookie) = book.page(Some("x"), 0, Some(cookie), 9, LATE);
    assert!(none.is_empty());
    book.put(at("x", third[0].peer, 7));
    assert_eq!(stamps(&book.page(Some("x"), 0, Some(cookie), 9, LATE).0), [7], "registered again");
    assert_eq!(stamps(&book.page(None, 0, None, 2, LATE).0), [9, 7]);
}

#[test]
fn what_may_come_late_from_another_node_is_not_missed() {
    let (mut book, now) = (Book::default(), Millis(100_000));
    book.put(at("x", PeerId::random(), 99_999));
    let (_, cookie) = book.page(Some("x"), 0, None, 9, now);
    // Made before that one, and heard of after it.
    book.put(at("x", PeerId::random(), 99_998));
    let (page, _) = book.page(Some("x"), 0, Some(cookie), 9, now);
    assert!(stamps(&page).contains(&99_998));
}

#[test]
fn bounds_are_for_who_is_not_registered_there() {
    let mut book = Book::default();
    let [a, b, c] = [(); 3].map(|()| PeerId::random());
    let has_room = |book: &Book, namespace: &str, peer| book.has_room(&at(namespace, peer, 9), &LIMITS);
    book.put(at("x", a, 1));
    book.put(at("x", b, 2));
    book.put(at("y", a, 3));
    assert_eq!(has_room(&book, "x", c), Err(Full::Namespace));
    assert_eq!(has_room(&book, "z", a), Err(Full::Peer));
    assert_eq!(has_room(&book, "x", a), Ok(None));
    assert_eq!(has_room(&book, "z", c), Ok(None));
}

#[test]
fn memory_is_bounded_for_each_peer_and_address_and_for_all_and_renewals_may_not_grow_beyond_it() {
    let large =
        |peer, bytes: usize, account| Registration { record: vec![1; bytes].into(), account, ..at("z", peer, 9) };
    let (mut book, [a, b]) = (Book::default(), [PeerId::random(), PeerId::random()]);
    book.put(at("z", a, 1));
    assert_eq!(book.has_room(&large(b, 9_000, None), &LIMITS), Err(Full::Node));
    assert_eq!(book.has_room(&large(a, 9_900, None), &LIMITS), Err(Full::Node), "a renewal");
    let wide = RendezvousLimits { bytes: 10 << 20, ..LIMITS };
    assert_eq!(book.has_room(&large(b, PEER_BYTES, None), &wide), Err(Full::Peer));
    let account = Account::heard(1);
    let narrow = RendezvousLimits { bytes: 8 * 1_000, ..LIMITS };
    assert_eq!(book.has_room(&large(b, 100, account), &narrow), Ok(account));
    book.put(large(b, 100, account));
    assert_eq!(
        book.has_room(&Registration { namespace: "y".into(), ..large(a, 400, account) }, &narrow),
        Err(Full::Address)
    );
}

#[test]
fn who_is_in_renews_from_an_address_whose_share_is_full_on_the_account_it_is_on() {
    let limits = RendezvousLimits { bytes: 8 * 1_000, ..LIMITS };
    let of = |peer, bytes: usize, account: u64| Registration {
        record: vec![1; bytes].into(),
        account: Account::heard(account),
        ..at("x", peer, account)
    };
    let (mut book, [a, b, c]) = (Book::default(), [(); 3].map(|()| PeerId::random()));
    book.put(of(a, 100, 1));
    book.put(of(b, 100, 2));
    assert_eq!(book.has_room(&of(a, 100, 2), &limits), Ok(Account::heard(1)));
    assert_eq!(book.has_room(&of(a, 101, 2), &limits), Err(Full::Address), "it takes more");
    assert_eq!(book.has_room(&Registration { namespace: "y".into(), ..of(c, 1, 2) }, &limits), Err(Full::Address));
    assert_eq!(book.has_room(&of(a, 101, 3), &limits), Ok(Account::heard(3)), "there is room on that one");
}

#[test]
fn what_a_wild_clock_has_left_counts_for_nothing_and_makes_way() {
    let (mut book, [a, b]) = (Book::default(), [(); 2].map(|()| PeerId::random()));
    let latest = Epoch(10 << 16);
    book.put(at("x", a, 5));
    book.put(at("x", b, 99));
    assert_eq!(book.newest(latest), Epoch(5 << 16));
    for peer in [a, b] {
        book.forget_beyond(&("x".into(), peer), latest);
    }
    assert_eq!(stamps(&book.after(Epoch(0), 9)), [5]);
    assert!(book.put(at("x", b, 6)));
}

#[test]
fn each_form_of_records_is_told_by_itself() {
    let mut book = Book::default();
    book.put(at("x", PeerId::random(), 1));
    book.put(Registration { form: 1, ..at("x", PeerId::random(), 2) });
    assert_eq!(stamps(&book.page(Some("x"), 0, None, 9, LATE).0), [1]);
    assert_eq!(stamps(&book.page(Some("x"), 1, None, 9, LATE).0), [2]);
    assert_eq!(stamps(&book.page(None, 1, None, 9, LATE).0), [2]);
}

#[test]
fn what_was_taken_back_is_found_by_nobody_but_other_nodes() {
    let (mut book, peer) = (Book::default(), PeerId::random());
    book.put(at("x", peer, 1));
    book.put(Registration { record: Bytes::new(), ..at("x", peer, 2) });
    assert!(book.page(Some("x"), 0, None, 9, LATE).0.is_empty());
    assert_eq!(stamps(&book.after(Epoch(0), 9)), [2]);
    assert!(!book.put(at("x", peer, 1)), "heard of late");
    assert!(book.put(at("x", peer, 3)));
}

#[test]
fn a_page_for_another_node_ends_with_all_of_a_stamp() {
    let mut book = Book::default();
    for stamp in [1, 2, 2, 2, 3] {
        book.put(at("x", PeerId::random(), stamp));
    }
    assert_eq!(stamps(&book.after(Epoch(0), 2)), [1, 2, 2, 2]);
    assert_eq!(stamps(&book.after(Epoch(2 << 16), 2)), [3]);
}

proptest! {
    #[test]
    fn nodes_that_heard_the_same_agree_and_nothing_stays_behind(
        puts in proptest::collection::vec((0usize..3, 0usize..4, 1u64..50, any::<bool>()), 0..60),
        seed in any::<u64>(),
    ) {
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        let names = ["x", "y", "z"];
        // One stamp is of one registration.
        let puts: Vec<_> = puts.into_iter().enumerate().map(|(n, (name, peer, stamp, gone))| {
            let registration = at(names[name], peers[peer], stamp * 100 + n as u64);
            if gone { Registration { record: Bytes::new(), ..registration } } else { registration }
        }).collect();
        let mut shuffled = puts.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let (mut one, mut other, mut model) = (Book::default(), Book::default(), Model::new());
        for registration in &puts {
            one.put(registration.clone());
            let known: &mut Registration =
                model.entry((registration.namespace.clone(), registration.peer)).or_insert_with(|| registration.clone());
            if registration.stamp > known.stamp {
                *known = registration.clone();
            }
        }
        for registration in shuffled {
            other.put(registration);
        }
        prop_assert_eq!(one.after(Epoch(0), 999), other.after(Epoch(0), 999));
        prop_assert_eq!(one.size(), other.size());
        prop_assert_eq!(one.size().0, model.len());
        for name in names {
            let (mut found, mut cookie) = (Vec::new(), None);
            loop {
                let (page, next) = one.page(Some(name), 0, cookie, 2, LATE);
                if page.is_empty() && cookie == Some(next) {
                    break;
                }
                cookie = Some(next);
                found.extend(page);
            }
            let stand = model.values().filter(|r| &*r.namespace == name && r.stands()).count();
            prop_assert_eq!(found.len(), stand, "each is told once");
        }
        one.expire(Millis(u64::MAX), 999);
        prop_assert_eq!(one.size(), (0, 0));
        prop_assert!(one.is_bare() && one.index.namespaces.is_empty() && one.index.found[0].is_empty());
    }
}
