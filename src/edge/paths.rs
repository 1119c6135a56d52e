//! Paths as shipped clients write them.

use http::Uri;
use http::uri::PathAndQuery;

/// The same address with repeated slashes in its path collapsed to one: clients that join a base address
/// ending in a slash with a path ask for `//relay/request`. `None` if there is nothing to collapse.
#[must_use]
pub fn collapse_slashes(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let mut collapsed = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !collapsed.ends_with('/') {
            collapsed.push(c);
        }
    }
    if let Some(query) = uri.query() {
        collapsed.push('?');
        collapsed.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(collapsed).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collapse(uri: &str) -> Option<String> {
        collapse_slashes(&uri.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn repeated_slashes_become_one_and_the_rest_stays() {
        assert_eq!(collapse("//relay/request").as_deref(), Some("/relay/request"));
        assert_eq!(collapse("/relay///request//?next=//x").as_deref(), Some("/relay/request/?next=//x"));
        assert_eq!(collapse("http://host//health").as_deref(), Some("http://host/health"));
        assert_eq!(collapse("/relay/request?next=//x"), None);
    }
}
