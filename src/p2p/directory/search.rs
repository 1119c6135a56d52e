//! Who is found by a text: those whose name has it in it, large and small letters of ASCII alike, and whose id it is.
//!
//! Names are listed by each run of one to three characters in them. A text is looked for among the names that have its
//! rarest run, the newest first, and not further than [`MAX_LOOKED_AT`] of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use libp2p::PeerId;

use crate::p2p::spread::book::{self, Index, Place};
use crate::wire::p2p::directory::MAX_NAME_CHARS;

use super::limits::{MAX_FOUND, MAX_LOOKED_AT};
use super::profile::Profile;

/// All profiles.
pub type Book = book::Book<Profile, Names>;

/// So many characters in a row; shorter runs end in [`NONE`].
type Gram = [char; LONGEST];

const LONGEST: usize = 3;

/// No name has it.
const NONE: char = '\0';

/// Profiles by what is in their names.
#[derive(Debug, Default)]
pub struct Names {
    listed: HashMap<Gram, BTreeSet<Place>>,
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

    /// The fewest places that can be those of names with this text in them; it is not empty.
    fn rarest(&self, text: &str) -> Option<&BTreeSet<Place>> {
        let folded: Vec<char> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
        let runs = folded.windows(folded.len().min(LONGEST)).map(gram);
        let places: Option<Vec<_>> = runs.map(|run| self.listed.get(&run)).collect();
        places?.into_iter().min_by_key(|places| places.len())
    }
}

impl Index<Profile> for Names {
    fn added(&mut self, place: Place, profile: &Arc<Profile>) {
        for gram in grams(&profile.name) {
            self.listed.entry(gram).or_default().insert(place);
        }
    }

    fn removed(&mut self, place: Place, profile: &Profile) {
        self.unkept.remove(&profile.peer);
        for gram in grams(&profile.name) {
            if let Some(places) = self.listed.get_mut(&gram) {
                places.remove(&place);
                if places.is_empty() {
                    self.listed.remove(&gram);
                }
            }
        }
    }
}

impl Book {
    /// Who is found by `query` without the white space around it: whose id it is, and then those with it in their names, the
    /// newest first; so many at most. Nobody by nothing.
    #[must_use]
    pub fn search(&self, query: &str) -> Vec<Arc<Profile>> {
        let query = query.trim();
        let named = query.parse::<PeerId>().ok().filter(|peer| peer.to_base58() == query);
        let named = named.and_then(|peer| self.of(&peer)).filter(|profile| profile.stands());
        let mut found: Vec<_> = named.cloned().into_iter().collect();
        if query.is_empty() || query.chars().nth(MAX_NAME_CHARS).is_some() {
            return found;
        }
        let places = self.index.rarest(query).into_iter().flatten().rev().take(MAX_LOOKED_AT);
        for profile in places.filter_map(|place| self.at(place)) {
            if found.len() >= MAX_FOUND {
                break;
            }
            if contains(&profile.name, query) && named.is_none_or(|named| named.peer != profile.peer) {
                found.push(profile.clone());
            }
        }
        found
    }
}

/// All runs of one to three characters in a name, each once.
pub fn grams(name: &str) -> Vec<Gram> {
    let folded: Vec<char> = name.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut all: Vec<_> = (1..=LONGEST).flat_map(|length| folded.windows(length).map(gram)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn gram(run: &[char]) -> Gram {
    let mut gram = [NONE; LONGEST];
    gram[..run.len()].copy_from_slice(run);
    gram
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
