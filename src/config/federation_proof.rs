//! How this cluster and others prove themselves to one another: by certificates, by a secret, or not at all.

use std::collections::BTreeMap;

use super::check::{self, reloaded};
use super::error::ConfigError;
use super::federation::PeerUrl;
use super::parse;
use super::secret::Secret;
use super::setting::Setting;
use super::table;
use super::values::Values;
use crate::domain::ids::NodeId;
use crate::security::peer_tls::PeerTls;
use crate::security::relay_certificate::KeyDigest;
use crate::security::reload::Reloaded;

/// The files of mutual TLS, in the order in which they are read.
const FILES: [&Setting; 3] = [&table::FEDERATION_TLS_CERT, &table::FEDERATION_TLS_KEY, &table::FEDERATION_TLS_CA];

/// What the operator must say to do without any proof.
const INSECURE: &str = "true";

/// The keys that relays must have, by their ids.
pub type Pins = BTreeMap<NodeId, Vec<KeyDigest>>;

/// How clusters prove themselves to one another.
#[derive(Debug, Clone)]
pub enum FederationProof {
    /// Not at all: on loopback, without TLS.
    Nothing,
    /// Not at all, anywhere: the operator says so.
    Insecure,
    /// By a secret that they share.
    Secret(Secret),
    /// By certificates.
    Certificates {
        /// The certificate, its key, and whose certificates others must have.
        tls: Reloaded<PeerTls>,
        /// The keys that some relays must have.
        pins: Pins,
    },
}

/// How far links may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To this machine, without TLS.
    Loopback,
    /// Anywhere, without TLS.
    WithoutTls,
    /// Anywhere.
    Everywhere,
}

impl Reach {
    /// Whether a peer may be called there.
    #[must_use]
    pub fn allows(self, peer: &PeerUrl) -> bool {
        match self {
            Self::Loopback => !peer.tls && peer.is_loopback(),
            Self::WithoutTls => !peer.tls,
            Self::Everywhere => true,
        }
    }
}

impl FederationProof {
    /// How far links with it may go.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match self {
            Self::Nothing => Reach::Loopback,
            Self::Insecure => Reach::WithoutTls,
            Self::Secret(_) | Self::Certificates { .. } => Reach::Everywhere,
        }
    }

    /// Reads and checks what there is of it, and that no link goes farther than it reaches.
    pub(super) fn read(values: &Values) -> Result<Self, Vec<ConfigError>> {
        let given = Given::of(values);
        let mut errors = given.contradictions();
        errors.extend(overreach(values, given.reach()));
        match given.read(values) {
            Ok(proof) if errors.is_empty() => Ok(proof),
            read => {
                errors.extend(read.err());
                Err(errors)
            }
        }
    }
}

/// Which settings have a value. One that was refused is reported already; that it is then missing would mislead.
struct Given {
    enabled: bool,
    secret: Option<&'static Setting>,
    files: usize,
    pins: bool,
    insecure: bool,
}

impl Given {
    fn of(values: &Values) -> Self {
        let secrets = [&table::FEDERATION_SECRET, &table::FEDERATION_SECRET_FILE];
        Self {
            enabled: values.required(&table::FEDERATION_ENABLED, parse::boolean).unwrap_or_default(),
            secret: secrets.into_iter().find(|setting| values.is_given(setting)),
            files: FILES.iter().filter(|setting| values.is_given(setting)).count(),
            pins: values.is_given(&table::FEDERATION_PINS),
            insecure: matches!(values.optional(&table::FEDERATION_INSECURE, yes), Ok(Some(true))),
        }
    }

    fn reach(&self) -> Reach {
        match (self.secret, self.files, self.insecure) {
            (None, 0, false) => Reach::Loopback,
            (None, 0, true) => Reach::WithoutTls,
            _ => Reach::Everywhere,
        }
    }

    fn contradictions(&self) -> Vec<ConfigError> {
        let tls = (self.files > 0).then_some(&table::FEDERATION_TLS_CERT);
        let both = |one: Option<&Setting>, other: Option<&Setting>, reason| {
            let (one, other) = (one?.name, other?.name);
            Some(ConfigError::FederationContradiction { one, other, reason })
        };
        let insecure = self.insecure.then_some(&table::FEDERATION_INSECURE);
        let half = (self.files > 0 && self.files < FILES.len()).then_some(ConfigError::HalfFederationTls);
        let found = [
            half,
            both(self.secret, tls, "clusters prove themselves in one way"),
            both(insecure, self.secret.or(tls), "what is proven is not insecure"),
            (self.pins && self.files == 0).then_some(ConfigError::PinsWithoutTls),
        ];
        found.into_iter().flatten().collect()
    }

    fn read(&self, values: &Values) -> Result<FederationProof, ConfigError> {
        let secret = check::secret(values, &table::FEDERATION_SECRET, &table::FEDERATION_SECRET_FILE)?;
        let pins = values.optional(&table::FEDERATION_PINS, parse::pins)?.unwrap_or_default();
        let mut files = Vec::new();
        for setting in FILES {
            files.extend(values.optional(setting, parse::path)?.map(|path| (setting, path)));
        }
        // Without federation nobody looks at them.
        if self.enabled && files.len() == FILES.len() {
            let tls = reloaded("certificates of the federation", &files, PeerTls::from_files)?;
            return Ok(FederationProof::Certificates { tls, pins });
        }
        Ok(match secret {
            Some(secret) => FederationProof::Secret(secret),
            None if self.insecure => FederationProof::Insecure,
            None => FederationProof::Nothing,
        })
    }
}

fn yes(text: &str) -> Option<bool> {
    Some(text == INSECURE)
}

/// The settings by which links would go farther than they may.
fn overreach(values: &Values, reach: Reach) -> Vec<ConfigError> {
    let is_enabled = values.required(&table::FEDERATION_ENABLED, parse::boolean).unwrap_or_default();
    let listens_there = values.address(&table::FEDERATION_ADDR).is_ok_and(|address| !address.ip().is_loopback());
    let peers = values.optional(&table::FEDERATION_PEERS, parse::peers).ok().flatten().unwrap_or_default();
    let too_far = [
        (&table::FEDERATION_ADDR, listens_there && reach == Reach::Loopback),
        (&table::FEDERATION_PEERS, peers.iter().any(|peer| !reach.allows(peer))),
    ];
    let too_far = too_far.into_iter().filter(|(_, is_too_far)| is_enabled && *is_too_far);
    too_far.map(|(setting, _)| ConfigError::FederationNeedsProof { setting: setting.name }).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::Config;

    const ON: (&str, &str) = ("RELAY_FEDERATION_ENABLED", "true");
    const SECRET: (&str, &str) = ("RELAY_FEDERATION_SECRET", "0123456789abcdef");
    const INSECURE: (&str, &str) = ("RELAY_FEDERATION_INSECURE", "true");
    const ELSEWHERE: (&str, &str) = ("RELAY_FEDERATION_ADDR", "0.0.0.0:7402");

    fn proof(pairs: &[(&str, &str)]) -> Result<FederationProof, String> {
        let config = Config::from_pairs([ON].iter().chain(pairs).copied());
        config.map(|config| config.federation.proof).map_err(|errors| errors.to_string())
    }

    /// The three settings with files of a certificate that trusts itself.
    fn files() -> (tempfile::TempDir, [(&'static str, String); 3]) {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["relay".to_owned()]).unwrap().self_signed(&key).unwrap();
        let texts = [certificate.pem(), key.serialize_pem(), certificate.pem()];
        let file = |index: usize| {
            let path = dir.path().join(format!("{index}.pem"));
            std::fs::write(&path, &texts[index]).unwrap();
            (FILES[index].name, path.to_str().unwrap().to_owned())
        };
        let files = [file(0), file(1), file(2)];
        (dir, files)
    }

    #[test]
    fn only_loopback_needs_no_proof() {
        assert!(proof(&[("RELAY_FEDERATION_PEERS", "http://127.0.0.1:1,ws://localhost:2")]).is_ok());
        let (_dir, files) = files();
        let files = files.each_ref().map(|(name, path)| (*name, path.as_str()));
        for bad in [
            ("RELAY_FEDERATION_PEERS", "http://relay.example:1"),
            ("RELAY_FEDERATION_PEERS", "https://127.0.0.1:1"),
            ELSEWHERE,
        ] {
            let error = proof(&[bad]).unwrap_err();
            assert!(error.contains(bad.0) && error.contains("RELAY_FEDERATION_SECRET"), "{error}");
            assert!(matches!(proof(&[bad, SECRET]), Ok(FederationProof::Secret(_))));
            let certified = proof(&[&files[..], &[bad]].concat());
            assert!(matches!(certified, Ok(FederationProof::Certificates { .. })), "{certified:?}");
        }
    }

    #[test]
    fn to_do_without_proof_is_said_in_so_many_words() {
        let peer = ("RELAY_FEDERATION_PEERS", "http://relay.example:1");
        assert!(matches!(proof(&[ELSEWHERE, peer, INSECURE]), Ok(FederationProof::Insecure)));
        for other in ["false", "1", "yes", "TRUE"] {
            assert!(proof(&[ELSEWHERE, ("RELAY_FEDERATION_INSECURE", other)]).is_err(), "{other}");
        }
        // There is nothing to speak TLS with.
        assert!(proof(&[("RELAY_FEDERATION_PEERS", "https://relay.example:1"), INSECURE]).is_err());
    }

    #[test]
    fn half_of_it_and_contradictions_are_told_together() {
        let (_dir, files) = files();
        let files = files.each_ref().map(|(name, path)| (*name, path.as_str()));
        let pins = ("RELAY_FEDERATION_PINS", "eu-1=00");
        let error = proof(&[files[0], SECRET, INSECURE]).unwrap_err();
        assert_eq!(error.lines().count(), 3, "{error}");
        assert!(proof(&[files[0], files[2]]).unwrap_err().contains("RELAY_FEDERATION_TLS_KEY"));
        assert!(proof(&[pins]).unwrap_err().contains("RELAY_FEDERATION_PINS must be"));
        let key = format!("eu-1={}", "0a".repeat(32));
        assert!(proof(&[("RELAY_FEDERATION_PINS", &key)]).unwrap_err().contains("RELAY_FEDERATION_TLS_CERT"));
        let pins = ("RELAY_FEDERATION_PINS", key.as_str());
        let Ok(FederationProof::Certificates { pins, .. }) = proof(&[&files[..], &[pins]].concat()) else {
            panic!("there are certificates")
        };
        assert_eq!(pins[&"eu-1".parse::<NodeId>().unwrap()], [KeyDigest([10; 32])]);
        let swapped = [files[0], (files[1].0, files[0].1), files[2]];
        let error = proof(&swapped).unwrap_err();
        assert!(error.contains("RELAY_FEDERATION_TLS_KEY") && error.contains("no private key"), "{error}");
    }
}
