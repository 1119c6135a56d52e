//! Where a relay is, as the clients of mailboxes are told (Vauchi relay protocol, section 8).

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::bench::target::{NotAUrl, RelayUrl};
use crate::security::noise::KEY_BYTES;

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMailboxUrl {
    /// What stands before the key.
    #[error(transparent)]
    Url(#[from] NotAUrl),
    /// What stands behind `#`.
    #[error("what follows # must be the relay's Noise key: 43 characters, as its /pubkey gives them")]
    Key,
}

/// A relay, and the key by which clients know it if they use Noise: `ws://host:port#key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxUrl {
    pub(super) relay: RelayUrl,
    pub(super) key: Option<[u8; KEY_BYTES]>,
}

impl FromStr for MailboxUrl {
    type Err = NotAMailboxUrl;

    fn from_str(text: &str) -> Result<Self, NotAMailboxUrl> {
        let (relay, key) = match text.split_once('#') {
            Some((relay, key)) => (relay, Some(read(key).ok_or(NotAMailboxUrl::Key)?)),
            None => (text, None),
        };
        Ok(Self { relay: relay.parse()?, key })
    }
}

fn read(text: &str) -> Option<[u8; KEY_BYTES]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::noise::StaticKey;

    #[test]
    fn the_key_stands_behind_the_address() {
        let key = StaticKey::from_private([7; KEY_BYTES]).unwrap();
        let url: MailboxUrl = format!("http://h:1/#{}", key.public_text()).parse().unwrap();
        assert_eq!((url.relay.mailbox(), url.key), ("ws://h:1/".into(), Some(*key.public())));
        assert_eq!("ws://h:1".parse::<MailboxUrl>().unwrap().key, None);
    }

    #[test]
    fn anything_else_behind_it_is_refused() {
        for bad in ["ws://h:1#", "ws://h:1#y", &format!("ws://h:1#{}", "A".repeat(44))] {
            assert_eq!(bad.parse::<MailboxUrl>(), Err(NotAMailboxUrl::Key), "{bad}");
        }
        assert_eq!("wss://h".parse::<MailboxUrl>(), Err(NotAMailboxUrl::Url(NotAUrl::Tls)));
    }
}
