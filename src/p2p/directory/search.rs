//! Who is found by a text: those whose name has it in it, large and small letters of ASCII alike, and whose id it is.
//!
//! Names are listed by each run of one to three characters in them. A text is looked for among the names that have its
//! rarest run, the newest first, and not further than [`MAX_LOOKED_AT`] of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use libp2p::PeerId;

use crate::p2p::spread::book::{self, Index, Place};
use crate::wire::p2p::directory::MAX_NAME_CHARS;

use super::limits::{LOOKED_AT_ONCE, MAX_FOUND, MAX_LOOKED_AT};
use super::name::{Gram, LONGEST, folded, gram};
use super::places::Places;
use super::profile::Profile;

/// All profiles.
pub type Book = book::Book<Profile, Names>;

/// Profiles by what is in their names.
#[derive(Debug, Default)]
pub struct Names {
    listed: HashMap<Gram, Places>,
    /// Peers whose newest profile this node has taken and not made durable yet.
    unkept: HashSet<PeerId>,
}

impl Names {
    /// This node has taken the profile that is known, and is about to make it durable.
    pub fn keeping(&mut self, peer: PeerId) {
        self.unkept.insert(peer);
    }

    /// The profile that is known is durable.
    pub fn kept(&mut self, peer: &PeerId) {
        self.unkept.remove(peer);
    }

    /// Whether the profile that is known is durable, as far as this node has to do with it.
    #[must_use]
    pub fn is_kept(&self, peer: &PeerId) -> bool {
        !self.unkept.contains(peer)
    }

    /// The run of this text that the fewest names have; the text is not empty. None, if there is one that no name has.
    fn rarest(&self, text: &str) -> Option<Gram> {
        let folded = folded(text);
        let runs = folded.windows(folded.len().min(LONGEST)).map(gram);
        let known: Option<Vec<_>> = runs.map(|run| Some((self.listed.get(&run)?.len(), run))).collect();
        known?.into_iter().min().map(|(_, run)| run)
    }
}

impl Index<Profile> for Names {
    fn added(&mut self, place: Place, profile: &Arc<Profile>) {
        for gram in profile.name.grams() {
            self.listed.entry(*gram).and_modify(|places| places.insert(place)).or_insert(Places::One(place));
        }
    }

    fn removed(&mut self, place: Place, profile: &Profile) {
        self.unkept.remove(&profile.peer);
        for gram in profile.name.grams() {
            if self.listed.get_mut(gram).is_some_and(|places| places.remove(place)) {
                self.listed.remove(gram);
            }
        }
    }
}

/// A search that goes on in steps, so that others have the book between them.
#[derive(Debug)]
pub struct Search<'a> {
    text: &'a str,
    run: Option<Gram>,
    /// Of the places of that run those from here on were looked at.
    from: Option<Place>,
    /// How many may still be looked at.
    left: usize,
    found: Vec<Arc<Profile>>,
}

impl<'a> Search<'a> {
    /// For `query` without the white space around it. Who is found are whose id it is, and then those with it in their names,
    /// the newest first; so many at most. Nobody by nothing.
    #[must_use]
    pub fn begin(book: &Book, query: &'a str) -> Self {
        let text = query.trim();
        let named = text.parse::<PeerId>().ok().filter(|peer| peer.to_base58() == text);
        let named = named.and_then(|peer| book.of(&peer)).filter(|profile| profile.stands());
        let is_name = !text.is_empty() && text.chars().nth(MAX_NAME_CHARS).is_none();
        let run = if is_name { book.index.rarest(text) } else { None };
        Self { text, run, from: None, left: MAX_LOOKED_AT, found: named.cloned().into_iter().collect() }
    }

    /// Looks at some more; false, if that was all.
    pub fn step(&mut self, book: &Book) -> bool {
        let Some(places) = self.run.and_then(|run| book.index.listed.get(&run)) else { return false };
        let some = places.before(self.from, self.left.min(LOOKED_AT_ONCE));
        for profile in some.iter().filter_map(|place| book.at(place)) {
            if self.found.len() >= MAX_FOUND {
                return false;
            }
            // Who is asked for by id is found already.
            if contains(&profile.name, self.text) && self.found.iter().all(|found| found.peer != profile.peer) {
                self.found.push(profile.clone());
            }
        }
        self.left -= some.len();
        self.from = some.last().copied();
        self.left > 0 && self.from.is_some()
    }

    /// Who was found.
    #[must_use]
    pub fn found(self) -> Vec<Arc<Profile>> {
        self.found
    }
}

/// Whether `name` has `text` in it. Bytes do: no character of UTF-8 begins within another.
fn contains(name: &str, text: &str) -> bool {
    name.as_bytes().windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::clock::{Epoch, Millis};

    fn named(name: &str, stamp: u64) -> Profile {
        Profile {
            peer: PeerId::random(),
            name: name.into(),
            relay: "".into(),
            until: Millis(u64::MAX),
            stamp: Epoch(stamp),
            account: None,
        }
    }

    fn book(names: &[&str]) -> Book {
        let mut book = Book::default();
        for (stamp, name) in (1..).zip(names) {
            book.put(named(name, stamp));
        }
        book
    }

    impl Book {
        /// All steps of a search; each takes a look that is short.
        fn search(&self, query: &str) -> Vec<Arc<Profile>> {
            let mut search = Search::begin(self, query);
            for _ in 0..MAX_LOOKED_AT.div_ceil(LOOKED_AT_ONCE) {
                if !search.step(self) {
                    return search.found();
                }
            }
            panic!("{query:?} is looked for any longer");
        }
    }

    fn names(found: &[Arc<Profile>]) -> Vec<&str> {
        found.iter().map(|profile| &*profile.name).collect()
    }

    #[test]
    fn a_name_is_found_by_any_part_of_it_the_newest_first() {
        let book = book(&["Ann", "Hannah", "Bo", "J\u{f6}rg", "50%_off"]);
        for (query, expected) in [
            ("an", &["Hannah", "Ann"][..]),
            (" ANN ", &["Hannah", "Ann"]),
            ("hannah", &["Hannah"]),
            ("b", &["Bo"]),
            ("\u{f6}r", &["J\u{f6}rg"]),
            ("\u{d6}r", &[]),
            ("%", &["50%_off"]),
            ("%_", &["50%_off"]),
            ("a_n", &[]),
            ("annx", &[]),
            ("", &[]),
            (" ", &[]),
        ] {
            assert_eq!(names(&book.search(query)), expected, "{query:?}");
        }
    }

    #[test]
    fn who_is_asked_for_by_id_comes_before_those_who_are_called_so() {
        let mut book = book(&["Ann"]);
        let ann = book.search("ann").remove(0);
        let id = ann.peer.to_base58();
        for stamp in 10..40 {
            book.put(named(&id, stamp));
        }
        let found = book.search(&id);
        assert_eq!((found.len(), &found[0]), (MAX_FOUND, &ann));
        assert_eq!(names(&book.search(&id[..id.len() - 1])), [id.as_str(); MAX_FOUND]);
        book.put(Profile { name: "".into(), stamp: Epoch(50), ..(*ann).clone() });
        assert!(!book.search(&id).contains(&ann), "taken back");
    }

    #[test]
    fn no_more_is_looked_at_than_may_be() {
        let mut book = book(&["abcdab"]);
        // Each has every run of the text, and not the text.
        for stamp in 2..=MAX_LOOKED_AT as u64 {
            book.put(named("cdabcd", stamp));
        }
        assert_eq!(names(&book.search("abcda")), ["abcdab"], "it is the last that is looked at");
        book.put(named("cdabcd", 1 << 20));
        assert!(book.search("abcda").is_empty());
    }

    #[test]
    fn a_search_goes_on_where_it_was_whatever_comes_meanwhile() {
        let mut book = book(&["abcdax", "abcday"]);
        // Each has every run of the text, and not the text.
        for stamp in 10..10 + LOOKED_AT_ONCE as u64 {
            book.put(named("cdabcd", stamp));
        }
        let mut search = Search::begin(&book, "abcda");
        assert!(search.step(&book) && search.found.is_empty(), "not all at once");
        book.put(named("abcdaz", 5_000));
        while search.step(&book) {}
        assert_eq!(names(&search.found()), ["abcday", "abcdax"]);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_all_of_them_finds(
            puts in proptest::collection::vec(("[abAB\u{e4}]{0,6}", 0usize..30), 0..80),
            query in "[abAB\u{e4}]{0,4}",
        ) {
            let peers: Vec<_> = (0..30).map(|_| PeerId::random()).collect();
            let (mut book, mut model) = (Book::default(), std::collections::BTreeMap::new());
            for (stamp, (name, peer)) in (1..).zip(&puts) {
                let profile = Profile { peer: peers[*peer], ..named(name, stamp) };
                book.put(profile.clone());
                model.retain(|_, known: &mut Profile| known.peer != profile.peer);
                model.insert(stamp, profile);
            }
            let folded = query.to_ascii_lowercase();
            let fits = |profile: &&Profile| !query.is_empty() && profile.name.to_ascii_lowercase().contains(&folded);
            let expected: Vec<_> = model.values().rev().filter(fits).take(MAX_FOUND).cloned().collect();
            let found: Vec<_> = book.search(&query).iter().map(|profile| (**profile).clone()).collect();
            prop_assert_eq!(found, expected);
            book.expire(Millis(u64::MAX), 999);
            prop_assert!(book.is_bare() && book.index.listed.is_empty());
        }
    }
}
