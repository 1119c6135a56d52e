//! Values as operators may see them.

use super::parse;
use super::setting::{Kind, Setting};

/// What stands for a value that nobody may see.
const HIDDEN: &str = "(hidden)";

/// The value of a setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The value, or what stands for it.
    pub text: String,
    /// Whether something of the value is left out.
    pub hidden: bool,
}

impl Shown {
    /// Hides secrets, and what a URL says before its host.
    pub(super) fn of(setting: &Setting, text: &str) -> Self {
        if setting.is_secret() {
            return Self { text: HIDDEN.to_owned(), hidden: true };
        }
        match setting.kind {
            Kind::Url => url(text),
            _ => Self { text: text.to_owned(), hidden: false },
        }
    }
}

/// A URL may name a user and a password before its host, and carry a token in its query.
fn url(text: &str) -> Shown {
    let hidden = || Shown { text: HIDDEN.to_owned(), hidden: true };
    let Some(uri) = parse::url(text) else { return hidden() };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return hidden() };
    let host = authority.as_str().rsplit_once('@').map(|(_, host)| host);
    if host.is_none() && uri.query().is_none() {
        return Shown { text: text.to_owned(), hidden: false };
    }
    let user = if host.is_some() { "(hidden)@" } else { "" };
    let query = if uri.query().is_some() { "?(hidden)" } else { "" };
    let text = format!("{scheme}://{user}{}{}{query}", host.unwrap_or(authority.as_str()), uri.path());
    Shown { text, hidden: true }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_nobody_may_see_is_not_shown() {
        let secret = "only these nodes know";
        let pairs = [
            ("RELAY_CLUSTER_SECRET", secret),
            ("RELAY_METRICS_TOKEN", "s3cret"),
            ("RELAY_OTLP_ENDPOINT", "http://user:pass@c:4317/x?token=s3cret"),
            ("RELAY_VAULT_PUSH_URL", "http://push/x"),
        ];
        let config = Config::from_pairs(pairs).unwrap();
        let shown = |name: &str| (config.shown[name].text.as_str(), config.shown[name].hidden);
        assert_eq!(shown("RELAY_CLUSTER_SECRET"), ("(hidden)", true));
        assert_eq!(shown("RELAY_METRICS_TOKEN"), ("(hidden)", true));
        assert_eq!(shown("RELAY_OTLP_ENDPOINT"), ("http://(hidden)@c:4317/x?(hidden)", true));
        assert_eq!(shown("RELAY_VAULT_PUSH_URL"), ("http://push/x", false));
        assert_eq!(shown("RELAY_LISTEN_ADDR"), ("0.0.0.0:8080", false));
        assert!(!config.shown.contains_key("RELAY_NODE_ID"));
        let all = format!("{:?}", config.shown);
        assert!(!all.contains(secret) && !all.contains("s3cret") && !all.contains("pass"), "{all}");
        assert!(!format!("{config:?}").contains(secret));
    }
}
