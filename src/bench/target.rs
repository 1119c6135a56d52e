//! Where a relay is, as its shipped clients read a URL (DCP relay protocol, section 15).

use std::fmt;
use std::str::FromStr;

/// Why a text is no relay address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAUrl {
    /// TLS is left to a proxy in front of the relay.
    #[error("the benchmark speaks plain ws:// or http:// only: name the port behind the TLS proxy")]
    Tls,
    /// Another scheme, or none.
    #[error("must begin with ws:// or http://")]
    Scheme,
    /// Nothing between the scheme and the path.
    #[error("must name a host, as in ws://127.0.0.1:8080")]
    Host,
}

/// The base address of a relay, with a path prefix if it has one; ends in neither `/` nor `/ws`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl {
    authority: String,
    prefix: String,
}

impl RelayUrl {
    /// The WebSocket URL for vaults.
    #[must_use]
    pub fn vault(&self) -> String {
        format!("{self}/ws")
    }

    /// The WebSocket URL for agents.
    #[must_use]
    pub fn agent(&self) -> String {
        format!("{self}/ws-client")
    }

    /// The WebSocket URL for the clients of mailboxes, who take any path that is no other route.
    #[must_use]
    pub fn mailbox(&self) -> String {
        format!("{self}/")
    }

    /// `host:port` for the TCP connection; port 80 when none was given.
    #[must_use]
    pub fn authority(&self) -> String {
        let after_host = self.authority.rfind(']').unwrap_or(0);
        match self.authority[after_host..].contains(':') {
            true => self.authority.clone(),
            false => format!("{}:80", self.authority),
        }
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}{}", self.authority, self.prefix)
    }
}

impl FromStr for RelayUrl {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(NotAUrl::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => {}
            "wss" | "https" => return Err(NotAUrl::Tls),
            _ => return Err(NotAUrl::Scheme),
        }
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.starts_with(':') {
            return Err(NotAUrl::Host);
        }
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/ws-client").or_else(|| path.strip_suffix("/ws")).unwrap_or(path);
        Ok(Self { authority: authority.into(), prefix: path.trim_end_matches('/').into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_and_full_paths_mean_the_same_relay() {
        for text in
            ["ws://h:1", "http://h:1/", "ws://h:1/ws", "ws://h:1/ws-client", "HTTP://h:1/ws/", "ws://h:1/ws?x=1#y"]
        {
            let url: RelayUrl = text.parse().unwrap();
            assert_eq!((url.vault().as_str(), url.agent().as_str()), ("ws://h:1/ws", "ws://h:1/ws-client"), "{text}");
            assert_eq!(url.mailbox(), "ws://h:1/", "{text}");
        }
    }

    #[test]
    fn a_path_prefix_is_kept() {
        let url: RelayUrl = "https://relay.example/dcp/ws".replace("https", "http").parse().unwrap();
        assert_eq!(url.agent(), "ws://relay.example/dcp/ws-client");
    }

    #[test]
    fn the_port_defaults_to_80_also_for_ipv6() {
        let authority = |text: &str| text.parse::<RelayUrl>().unwrap().authority();
        assert_eq!(authority("ws://h"), "h:80");
        assert_eq!(authority("ws://[::1]"), "[::1]:80");
        assert_eq!(authority("ws://[::1]:9"), "[::1]:9");
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_the_reason() {
        assert_eq!("wss://h".parse::<RelayUrl>(), Err(NotAUrl::Tls));
        assert_eq!("h:1".parse::<RelayUrl>(), Err(NotAUrl::Scheme));
        assert_eq!("ftp://h".parse::<RelayUrl>(), Err(NotAUrl::Scheme));
        assert_eq!("ws:///ws".parse::<RelayUrl>(), Err(NotAUrl::Host));
    }
}
