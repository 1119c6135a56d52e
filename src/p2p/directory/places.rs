//! The places of profiles that have something in common. Most runs of characters are in one name, or in few, so those cost
//! little.

use std::collections::BTreeSet;

use crate::p2p::spread::book::Place;

/// More places than this are kept in a tree.
const FEW: usize = 16;

/// Some places, in their order.
#[derive(Debug, PartialEq, Eq)]
pub enum Places {
    /// One.
    One(Place),
    /// A few, or none.
    Few(Vec<Place>),
    /// Any number.
    #[expect(clippy::box_collection, reason = "without the box, the many that have one or a few would be larger")]
    Many(Box<BTreeSet<Place>>),
}

impl Places {
    /// One more.
    pub fn insert(&mut self, place: Place) {
        match self {
            Self::One(one) => {
                let mut few = vec![*one];
                put(&mut few, place);
                *self = Self::Few(few);
            }
            Self::Few(few) if few.len() < FEW => put(few, place),
            Self::Few(few) => *self = Self::Many(Box::new(few.drain(..).chain([place]).collect())),
            Self::Many(many) => drop(many.insert(place)),
        }
    }

    /// One less; true, if there is none any more.
    pub fn remove(&mut self, place: Place) -> bool {
        match self {
            Self::One(one) => *one == place,
            Self::Few(few) => {
                if let Ok(at) = few.binary_search(&place) {
                    few.remove(at);
                }
                match few[..] {
                    [] => true,
                    [one] => {
                        *self = Self::One(one);
                        false
                    }
                    _ => false,
                }
            }
            Self::Many(many) => {
                many.remove(&place);
                // Later than they were too many, so that one that comes and goes does not move all.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(many.iter().copied().collect());
                }
                false
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Those before that place, the last first, so many at most.
    #[must_use]
    pub fn before(&self, place: Option<Place>, most: usize) -> Vec<Place> {
        let is_before = |one: &&Place| place.is_none_or(|place| **one < place);
        match self {
            Self::One(one) => Some(one).filter(is_before).into_iter().copied().take(most).collect(),
            Self::Few(few) => few.iter().rev().filter(is_before).copied().take(most).collect(),
            Self::Many(many) => match place {
                Some(place) => many.range(..place).rev().copied().take(most).collect(),
                None => many.iter().rev().copied().take(most).collect(),
            },
        }
    }
}

fn put(few: &mut Vec<Place>, place: Place) {
    if let Err(at) = few.binary_search(&place) {
        // One by one: most runs that are in two names are not in four.
        few.reserve_exact(1);
        few.insert(at, place);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::clock::Epoch;

    #[test]
    fn they_take_no_more_than_their_profiles_are_charged() {
        assert_eq!(size_of::<Places>(), 24);
    }

    proptest! {
        #[test]
        fn they_are_those_of_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..40), 1..200)) {
            let place = |number: u64| (Epoch(number / 2), number);
            let (mut model, mut places) = (BTreeSet::new(), None::<Places>);
            for (comes, number) in steps {
                let place = place(number);
                // As of the index: what is not there is not removed.
                if comes && model.insert(place) {
                    match &mut places {
                        Some(places) => places.insert(place),
                        None => places = Some(Places::One(place)),
                    }
                } else if !comes && model.remove(&place) && places.as_mut().is_some_and(|places| places.remove(place)) {
                    places = None;
                }
                prop_assert_eq!(places.as_ref().map_or(0, Places::len), model.len());
                let all = places.as_ref().map_or(Vec::new(), |places| places.before(None, 99));
                prop_assert!(all.iter().eq(model.iter().rev()));
                let some = places.as_ref().map_or(Vec::new(), |places| places.before(Some(place), 3));
                prop_assert!(some.iter().eq(model.range(..place).rev().take(3)));
            }
        }
    }
}
