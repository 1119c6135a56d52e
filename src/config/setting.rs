//! What one setting is: its names, what it accepts, its default and its meaning.

use std::fmt;

use super::parse::{self, NO_TOPICS};
use crate::domain::limits::{MAX_TOPIC_BYTES, MAX_TOPICS};

/// One setting. All of them are listed in [`table`](super::table).
#[derive(Debug)]
pub struct Setting {
    /// The environment variable, `RELAY_…`; also its name in errors.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value when nothing gives one; `None`: unset.
    pub default: Option<&'static str>,
    /// What it does, in one sentence without the final full stop.
    pub doc: &'static str,
    /// Other environment variables that give it.
    pub aliases: &'static [Alias],
    /// Command-line flags that give it, with their dashes.
    pub flags: &'static [Alias],
}

/// Another name that gives a setting, or a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The environment variable or flag.
    pub name: &'static str,
    /// What its value stands for.
    pub meaning: Meaning,
}

/// What the value of a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The setting's whole value.
    Whole,
    /// The host part of a socket address.
    Host,
    /// The port part of a socket address.
    Port,
    /// A boolean: true stands for that value, false for none.
    Switch(&'static str),
    /// Whole seconds, of a setting in milliseconds.
    Seconds,
}

/// The kinds of values, with their ranges.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number from `min` to `max`.
    Integer {
        /// The least accepted.
        min: u64,
        /// The largest accepted.
        max: u64,
        /// What it counts.
        unit: Unit,
    },
    /// A number from 0 to 1.
    Ratio,
    /// True or false.
    Boolean,
    /// One of several words.
    Choice {
        /// The words.
        accepted: &'static [&'static str],
        /// Words of earlier versions, each with the one that replaces it.
        replaced: &'static [(&'static str, &'static str)],
    },
    /// An IP address and a port.
    Address,
    /// A file or folder.
    Path,
    /// A name made by the operator, as in [`domain::ids`](crate::domain::ids).
    Name,
    /// A host name or an IP address by which others reach this node.
    Host,
    /// A log level or a list of `tracing` directives.
    LogFilter,
    /// An `http` or `https` URL.
    Url,
    /// Addresses and networks in CIDR notation, with commas between.
    Networks,
    /// Web origins, with commas between, or `*` alone.
    Origins,
    /// `host:port` pairs, with commas between.
    Seeds,
    /// URLs of other clusters, with commas between.
    Peers,
    /// Ids of relays, each with the digest of its key, with commas between.
    Pins,
    /// Addresses of libp2p, with commas between.
    Multiaddrs,
    /// Ids of libp2p peers, with commas between.
    PeerIds,
    /// Topics of gossip, with commas between, or the word that there are none.
    Topics,
    /// The URL of a relay as its clients use it.
    ClientUrl,
    /// Bytes that nobody else may know.
    Secret,
    /// A word that whoever asks must show, and nobody else may know.
    Token,
    /// The key pair of Noise.
    NoiseKey,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things a minute.
    PerMinute,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl Setting {
    /// A setting without default, aliases and flags.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: None, doc, aliases: &[], flags: &[] }
    }

    /// The same with a default.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The same with other environment variables that give it.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The same with command-line flags that give it.
    #[must_use]
    pub const fn flags(mut self, flags: &'static [Alias]) -> Self {
        self.flags = flags;
        self
    }

    /// Its key in the configuration file: the name in lower case without `RELAY_`.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.trim_start_matches("RELAY_").to_ascii_lowercase()
    }

    /// Whether its value must never be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Token | Kind::NoiseKey)
    }
}

impl Alias {
    /// A name that gives the whole value.
    #[must_use]
    pub const fn whole(name: &'static str) -> Self {
        Self { name, meaning: Meaning::Whole }
    }

    /// A name that gives the host of a socket address.
    #[must_use]
    pub const fn host(name: &'static str) -> Self {
        Self { name, meaning: Meaning::Host }
    }

    /// A name that gives the port of a socket address.
    #[must_use]
    pub const fn port(name: &'static str) -> Self {
        Self { name, meaning: Meaning::Port }
    }

    /// A name that gives milliseconds in whole seconds.
    #[must_use]
    pub const fn seconds(name: &'static str) -> Self {
        Self { name, meaning: Meaning::Seconds }
    }

    /// A switch that gives that value when it is on.
    #[must_use]
    pub const fn switch(name: &'static str, on: &'static str) -> Self {
        Self { name, meaning: Meaning::Switch(on) }
    }
}

impl Kind {
    /// A whole number from `min` to `max`.
    #[must_use]
    pub const fn integer(min: u64, max: u64, unit: Unit) -> Self {
        Self::Integer { min, max, unit }
    }

    /// Whether `text`, already trimmed and not empty, is a value of this kind.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        match *self {
            Self::Integer { min, max, .. } => parse::integer(text, min, max).is_some(),
            Self::Ratio => parse::ratio(text).is_some(),
            Self::Boolean => parse::boolean(text).is_some(),
            Self::Choice { accepted, .. } => accepted.contains(&text),
            Self::Address => parse::address(text).is_some(),
            Self::Path => parse::path(text).is_some(),
            Self::Name => parse::name::<crate::domain::ids::NodeId>(text).is_some(),
            Self::Host => parse::host(text).is_some(),
            Self::LogFilter => parse::log_filter(text).is_some(),
            Self::Url => parse::url(text).is_some(),
            Self::Networks => parse::networks(text).is_some(),
            Self::Origins => parse::origins(text).is_some(),
            Self::Seeds => parse::seeds(text).is_some(),
            Self::Peers => parse::peers(text).is_some(),
            Self::Pins => parse::pins(text).is_some(),
            Self::Multiaddrs => parse::multiaddrs(text).is_some(),
            Self::PeerIds => parse::peer_ids(text).is_some(),
            Self::Topics => parse::topics(text).is_some(),
            Self::ClientUrl => parse::client_url(text).is_some(),
            Self::Secret => parse::secret(text.as_bytes()).is_some(),
            Self::Token => parse::token(text).is_some(),
            Self::NoiseKey => parse::noise_key(text).is_some(),
        }
    }

    /// Whether values are lists: a configuration file may write them as arrays.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Networks
                | Self::Origins
                | Self::Seeds
                | Self::Peers
                | Self::Pins
                | Self::Multiaddrs
                | Self::PeerIds
                | Self::Topics
        )
    }

    /// What `given`, which is not accepted, should have been.
    #[must_use]
    pub fn correction(&self, given: &str) -> String {
        if let Self::Choice { replaced, .. } = self
            && let Some((_, new)) = replaced.iter().find(|(old, _)| *old == given)
        {
            return format!("{self} ({new} replaces {given})");
        }
        self.to_string()
    }
}

/// As in documentation: a switch with the value that turns it on.
impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning {
            Meaning::Switch(_) => write!(f, "{}=true", self.name),
            Meaning::Seconds => write!(f, "{} in seconds", self.name),
            Meaning::Whole | Meaning::Host | Meaning::Port => f.write_str(self.name),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max, unit } => write!(f, "{min} to {max}{unit}"),
            Self::Ratio => f.write_str("0.0 to 1.0"),
            Self::Boolean => f.write_str("true or false"),
            Self::Choice { accepted, .. } => f.write_str(&accepted.join(" or ")),
            Self::Address => f.write_str("an IP address and port, such as 127.0.0.1:8080 or [::]:8080"),
            Self::Path => f.write_str("a path"),
            Self::Name => f.write_str("1 to 64 characters from A-Z, a-z, 0-9, '.', '_' and '-'"),
            Self::Host => f.write_str("a host name or an IP address that others can reach"),
            Self::LogFilter => {
                f.write_str("error, warn, info, debug, trace or directives such as info,waystation=debug")
            }
            Self::Url => f.write_str("an http:// or https:// URL"),
            Self::Networks => f.write_str("IP addresses or CIDR networks, with commas between"),
            Self::Origins => f.write_str("origins such as https://app.example, with commas between, or * alone"),
            Self::Seeds => f.write_str("host:port pairs, with commas between"),
            Self::Peers => f.write_str("http, https, ws or wss URLs without a path, with commas between"),
            Self::Pins => f.write_str("relay ids, each with = and 64 hexadecimal digits, with commas between"),
            Self::Multiaddrs => f.write_str("addresses such as /ip4/0.0.0.0/tcp/4001, with commas between"),
            Self::PeerIds => f.write_str("peer ids such as 12D3KooW…, with commas between"),
            Self::Topics => {
                write!(
                    f,
                    "at most {MAX_TOPICS} names of at most {MAX_TOPIC_BYTES} bytes, with commas between, or {NO_TOPICS}"
                )
            }
            Self::ClientUrl => f.write_str("a ws, wss, http or https URL"),
            Self::Secret => write!(f, "at least {} bytes", parse::MIN_SECRET_BYTES),
            Self::Token => f.write_str("visible ASCII characters without spaces"),
            Self::NoiseKey => {
                f.write_str("base64url without padding of 64 bytes: an X25519 private key, then its public key")
            }
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "",
            Self::PerMinute => " per minute",
            Self::Bytes => " bytes",
            Self::Seconds => " seconds",
            Self::Milliseconds => " milliseconds",
        })
    }
}
