//! Which nodes own a key: highest random weight, so that a node that joins or leaves moves only its own share.
//!
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.

use super::digest;

/// How many nodes own a key. Two: one may die without anything being forgotten.
pub const OWNERS: usize = 2;

/// The hash of a key, made once and compared with every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Hashes the parts of a key. Parts are length-prefixed: `("ab", "c")` and `("a", "bc")` differ.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let digest = digest(parts);
        Self(digest.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// The weight of a node for a key; the owners are the nodes with the largest.
#[must_use]
pub fn weight(key: KeyHash, node: KeyHash) -> u64 {
    // The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
    let mut x = key.0 ^ node.0.rotate_left(32);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The owners of `key` among `nodes` (each with the hash of its name), heaviest first; fewer than
/// [`OWNERS`] only when there are fewer nodes.
pub fn owners<'a, T: 'a>(
    key: KeyHash,
    nodes: impl IntoIterator<Item = (&'a T, KeyHash)>,
) -> impl Iterator<Item = &'a T> {
    let mut best: [Option<(u64, &'a T)>; OWNERS] = [None; OWNERS];
    for (node, hash) in nodes {
        let mut candidate = Some((weight(key, hash), node));
        for slot in &mut best {
            if slot.map(|(w, _)| w) < candidate.map(|(w, _)| w) {
                std::mem::swap(slot, &mut candidate);
            }
        }
    }
    best.into_iter().flatten().map(|(_, node)| node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(names: &[String]) -> Vec<(&String, KeyHash)> {
        names.iter().map(|n| (n, KeyHash::of(&[n.as_bytes()]))).collect()
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(KeyHash::of(&[b"ab", b"c"]), KeyHash::of(&[b"a", b"bc"]));
    }

    #[test]
    fn load_is_even() {
        let names: Vec<String> = (0..5).map(|i| format!("node-{i}")).collect();
        let mut load = std::collections::HashMap::new();
        for key in 0..10_000u32 {
            for owner in owners(KeyHash::of(&[&key.to_be_bytes()]), named(&names)) {
                *load.entry(owner.clone()).or_insert(0u32) += 1;
            }
        }
        for (node, n) in load {
            assert!((3_600..=4_400).contains(&n), "{node} owns {n} of 20,000, 4,000 would be even");
        }
    }

    proptest! {
        #[test]
        fn a_node_that_leaves_moves_only_its_own_keys(key: u64, count in 3usize..9, gone in 0usize..9) {
            let names: Vec<String> = (0..count).map(|i| format!("node-{i}")).collect();
            let gone = &names[gone % count];
            let before: Vec<_> = owners(KeyHash(key), named(&names)).collect();
            let after: Vec<_> = owners(KeyHash(key), named(&names).into_iter().filter(|(n, _)| *n != gone)).collect();
            prop_assert_eq!(before.len(), OWNERS);
            prop_assert!(before[0] != before[1]);
            let kept: Vec<_> = before.into_iter().filter(|n| *n != gone).collect();
            prop_assert!(after.starts_with(&kept) || kept.iter().all(|n| after.contains(n)));
        }
    }
}
