//! The address at which other nodes reach this one's gossip.

use std::net::{IpAddr, SocketAddr};

use super::MembershipError;

/// From what the operator set, `host` or `host:port`, where a missing port is that of `bound`; or `bound`
/// itself if nothing was set. A name is resolved once: members know one another by address.
///
/// # Errors
/// [`MembershipError::NoAddress`], [`MembershipError::Advertise`].
pub async fn advertised(bound: SocketAddr, set: Option<&str>) -> Result<SocketAddr, MembershipError> {
    let Some(text) = set else {
        return if bound.ip().is_unspecified() { Err(MembershipError::NoAddress(bound)) } else { Ok(bound) };
    };
    let unfit =
        |why: &dyn std::fmt::Display| MembershipError::Advertise { text: text.to_owned(), why: why.to_string() };
    let found = resolve(text, bound).await.map_err(|error| unfit(&error))?;
    let found = found.ok_or_else(|| unfit(&"the name has no address"))?;
    if found.ip().is_unspecified() || found.port() == 0 {
        return Err(unfit(&"that is no address of one node"));
    }
    Ok(found)
}

async fn resolve(text: &str, bound: SocketAddr) -> std::io::Result<Option<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(Some(address));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(ip, bound.port())));
    }
    let found: Vec<_> = if text.contains(':') {
        tokio::net::lookup_host(text).await?.collect()
    } else {
        tokio::net::lookup_host((text, bound.port())).await?.collect()
    };
    // A socket of one family does not hear the other.
    let of_family = found.iter().find(|a| a.is_ipv4() == bound.is_ipv4());
    Ok(of_family.or(found.first()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn advertise(bound: &str, set: Option<&str>) -> Option<String> {
        advertised(bound.parse().unwrap(), set).await.ok().map(|a| a.to_string())
    }

    #[tokio::test]
    async fn an_address_or_name_with_or_without_port() {
        for (set, expected) in [
            (None, "127.0.0.1:7"),
            (Some("10.0.0.1"), "10.0.0.1:7"),
            (Some("10.0.0.1:9"), "10.0.0.1:9"),
            (Some("fd00::1"), "[fd00::1]:7"),
            (Some("[fd00::1]"), "[fd00::1]:7"),
            (Some("[fd00::1]:9"), "[fd00::1]:9"),
            (Some("localhost"), "127.0.0.1:7"),
            (Some("localhost:9"), "127.0.0.1:9"),
        ] {
            assert_eq!(advertise("127.0.0.1:7", set).await.as_deref(), Some(expected), "{set:?}");
        }
    }

    #[tokio::test]
    async fn all_addresses_are_nobodys_address() {
        assert_eq!(advertise("0.0.0.0:7", None).await, None);
        for set in ["0.0.0.0", "[::]:7", "10.0.0.1:0", "localhost:port", ""] {
            assert_eq!(advertise("127.0.0.1:7", Some(set)).await, None, "{set:?}");
        }
    }
}
