//! What an operator is told of the configuration when the node starts: what has no effect, or another than it had elsewhere.

use crate::config::Config;
use crate::p2p::directory::relay_at;

/// Was asked for by the Vauchi relay.
const TLS_VERIFIED: &str = "RELAY_TLS_VERIFIED";

/// With these the Dusk relay joined others; the name by which they are given, and of the setting.
const PEER_RELAYS: &str = "DUSK_PEER_RELAYS";
const DIRECTORY_RELAYS: &str = "RELAY_P2P_DIRECTORY_RELAYS";

/// Logs them.
pub fn log(config: &Config) {
    for name in &config.unknown_variables {
        tracing::warn!(%name, "this environment variable is no setting and has no effect");
    }
    if config.origins.contains_key(TLS_VERIFIED) {
        tracing::info!("{TLS_VERIFIED} has no effect: this relay starts without it, whoever ends TLS in front of it");
    }
    if let Some(remark) = relays(config) {
        tracing::warn!("{remark}");
    }
}

/// What became of each relay that was given, if that is not what the name of the setting says.
fn relays(config: &Config) -> Option<String> {
    let given_by = &config.origins.get(DIRECTORY_RELAYS)?.name;
    let (named, nameless): (Vec<_>, Vec<_>) =
        config.p2p.directory_relays.iter().partition(|address| relay_at(address).is_some());
    let list = |addresses: &[&multiaddr::Multiaddr]| match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let became = format!(
        "profiles in the directory may name these relays: {}; without effect, because they do not end in /p2p/ and an id: {}",
        list(&named),
        list(&nameless)
    );
    if given_by == PEER_RELAYS {
        return Some(format!(
            "{PEER_RELAYS} joins no relays, clusters are joined with RELAY_FEDERATION_PEERS; {became}"
        ));
    }
    (!nameless.is_empty()).then(|| format!("{given_by}: {became}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(name: &str, value: &str) -> Option<String> {
        relays(&Config::from_pairs([(name, value)]).unwrap())
    }

    #[test]
    fn operators_are_told_what_became_of_each_relay_that_they_gave() {
        let id = multiaddr::PeerId::random();
        let (good, bad) = (format!("/dns4/b.example/tcp/4001/p2p/{id}"), "/dns4/c.example/tcp/4001");
        let both = format!("{good}, {bad}");
        let told = remark(PEER_RELAYS, &both).unwrap();
        let parts = ["joined with RELAY_FEDERATION_PEERS", &format!("these relays: {good};"), &format!("an id: {bad}")];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(remark(PEER_RELAYS, &good).unwrap().ends_with("an id: none"));
        assert_eq!(remark(DIRECTORY_RELAYS, &good), None);
        assert!(remark(DIRECTORY_RELAYS, &both).unwrap().contains(bad));
        assert_eq!(remark(PEER_RELAYS, " "), None);
        let refused = Config::from_pairs([(PEER_RELAYS, "b.example:4001")]).unwrap_err().to_string();
        assert!(refused.contains(PEER_RELAYS) && refused.contains("b.example:4001"), "{refused}");
    }
}
