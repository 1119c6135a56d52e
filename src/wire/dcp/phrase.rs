//! The words that a user compares when an agent is paired (section 11.4).

use bip39::Language;
use sha2::{Digest, Sha256};

use crate::security::ed25519::PublicKey;

/// The first agent version, major and minor, that shows four words.
const FOUR_WORDS_SINCE: (u64, u64) = (3, 1);

/// The list of agents before that.
const OLD_WORDS: [&str; 32] = [
    "apple",
    "banana",
    "cherry",
    "dragon",
    "eagle",
    "falcon",
    "grape",
    "harbor",
    "island",
    "jungle",
    "kettle",
    "lemon",
    "mango",
    "nectar",
    "orange",
    "pepper",
    "quartz",
    "river",
    "sunset",
    "tiger",
    "umbrella",
    "violet",
    "walnut",
    "xylophone",
    "yellow",
    "zebra",
    "anchor",
    "bridge",
    "castle",
    "delta",
    "ember",
    "forest",
];

/// The phrase that an agent of this version shows for this key and invite, words joined by `-`.
///
/// From version 3.1 on: four words of the English BIP-39 list, 11 bits of the hash each. Before, and where the
/// version is not given or not readable: three of 32 words, a byte of the hash each.
#[must_use]
pub fn phrase(agent_version: Option<&str>, agent_public_key: &PublicKey, invite_id: &str) -> String {
    let hash = Sha256::new().chain_update(agent_public_key.0).chain_update(invite_id).finalize();
    match agent_version.and_then(major_minor) {
        Some(version) if version >= FOUR_WORDS_SINCE => bip39_words(&hash),
        _ => hash.iter().take(3).map(|byte| pick(&OLD_WORDS, usize::from(*byte))).collect::<Vec<_>>().join("-"),
    }
}

fn bip39_words(hash: &[u8]) -> String {
    // Four times 11 bits, most significant first, out of the first 48.
    let bits = hash.iter().take(6).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
    let list = Language::English.word_list();
    [37, 26, 15, 4].map(|shift| pick(list, bits >> shift)).join("-")
}

/// The word at `index` modulo the length of the list.
fn pick<const N: usize>(list: &[&'static str; N], index: usize) -> &'static str {
    list[index % N]
}

/// The first two numbers of a version such as `3.1.1` or `v3.1-beta`.
fn major_minor(version: &str) -> Option<(u64, u64)> {
    let (major, rest) = version.trim().trim_start_matches('v').split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::ed25519::SigningKey;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_hold() {
        let demo = SigningKey::from_seed(&[7; 32]).unwrap().public_key();
        let ones = PublicKey([1; 32]);
        assert_eq!(phrase(Some("3.0.0"), &demo, "inv_0123456789abcdef"), "ember-castle-pepper");
        assert_eq!(phrase(Some("3.1.1"), &demo, "inv_0123456789abcdef"), "dignity-tiny-spend-soda");
        assert_eq!(phrase(None, &ones, "inv_test123"), "falcon-dragon-bridge");
        assert_eq!(phrase(Some("3.1.1"), &ones, "inv_test123"), "earn-bracket-valve-cousin");
    }

    #[test]
    fn the_version_decides_how_many_words() {
        let words = |version: &str| phrase(Some(version), &PublicKey([1; 32]), "inv").split('-').count();
        for old in ["", "0.2.0", "2.0.1", "3.0.99", "3", "latest", "-3.1", "3.x"] {
            assert_eq!(words(old), 3, "{old}");
        }
        for new in ["3.1", "3.1.0", "v3.1.1", "3.1-beta", "3.10.0", "4.0.0", "10.2"] {
            assert_eq!(words(new), 4, "{new}");
        }
    }

    proptest! {
        #[test]
        fn any_version_and_invite_has_a_phrase(version in "\\PC*", key: [u8; 32], invite in "\\PC*") {
            prop_assert!(matches!(phrase(Some(&version), &PublicKey(key), &invite).split('-').count(), 3 | 4));
        }
    }
}
