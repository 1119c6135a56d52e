//! For which relay a certificate may speak.
//!
//! A certificate that has names of the form `urn:waystation:relay:ID` (URIs among its alternative names, RFC 5280,
//! section 4.2.1.6) speaks for those relays and no other. One without them speaks for the relay whose id is one of its
//! DNS names, to the letter. One with neither says nothing: whoever meets it must remember its key.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

/// What the name of a relay begins with.
const RELAY: &str = "urn:waystation:relay:";

/// The SHA-256 of a public key, as a certificate has it (`SubjectPublicKeyInfo`, RFC 5280, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest)?;
        Ok(Self(digest))
    }
}

/// What a certificate says about a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// It names it.
    This,
    /// It names others.
    Others,
    /// It names none.
    None,
}

/// What matters of a certificate that has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCertificate {
    /// Its key.
    pub key: KeyDigest,
    relays: Vec<String>,
    hosts: Vec<String>,
}

impl RelayCertificate {
    /// Reads one; `None` if it cannot be read.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(der).ok()?;
        let relays = certificate.valid_uri_names().filter_map(|name| name.strip_prefix(RELAY));
        Some(Self {
            key: KeyDigest(Sha256::digest(certificate.subject_public_key_info()).into()),
            relays: relays.map(str::to_owned).collect(),
            hosts: certificate.valid_dns_names().map(str::to_owned).collect(),
        })
    }

    /// The relays that it names.
    pub fn relays(&self) -> impl Iterator<Item = &str> {
        let names = if self.relays.is_empty() { &self.hosts } else { &self.relays };
        names.iter().map(String::as_str)
    }

    /// What it says about the relay of that id.
    #[must_use]
    pub fn naming(&self, relay: &str) -> Naming {
        let is_it = |name: &String| name == relay;
        match self.relays.is_empty() {
            false if self.relays.iter().any(is_it) => Naming::This,
            false => Naming::Others,
            true if self.hosts.iter().any(is_it) => Naming::This,
            true => Naming::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

    use super::*;

    fn certificate(hosts: &[&str], uris: &[&str]) -> (CertificateDer<'static>, KeyPair) {
        let mut params =
            CertificateParams::new(hosts.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    #[test]
    fn names_of_relays_count_alone_if_there_are_any() {
        let read = |hosts: &[&str], uris: &[&str]| RelayCertificate::read(&certificate(hosts, uris).0).unwrap();
        let urn = read(&["eu-1"], &["https://eu-1", "urn:waystation:relay:eu-2", "urn:waystation:relay:Eu-3"]);
        assert_eq!(urn.naming("eu-2"), Naming::This);
        assert_eq!(urn.naming("Eu-3"), Naming::This);
        for other in ["eu-1", "eu-3", "eu", ""] {
            assert_eq!(urn.naming(other), Naming::Others, "{other}");
        }
        let host = read(&["eu-1", "*.example"], &[]);
        assert_eq!(host.naming("eu-1"), Naming::This);
        for other in ["EU-1", "a.example", "eu-2"] {
            assert_eq!(host.naming(other), Naming::None, "{other}");
        }
        assert_eq!(read(&[], &[]).naming("eu-1"), Naming::None);
    }

    /// As `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum` has it.
    #[test]
    fn a_key_is_known_by_the_digest_of_its_whole_public_part() {
        let (certificate, key) = certificate(&[], &[]);
        let digest = RelayCertificate::read(&certificate).unwrap().key;
        assert_eq!(digest.0, <[u8; 32]>::from(Sha256::digest(key.subject_public_key_info())));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ab".parse::<KeyDigest>().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            drop(RelayCertificate::read(&bytes.into()));
            let mut der = certificate(&["a"], &["urn:waystation:relay:b"]).0.to_vec();
            let at = at % der.len();
            der[at] = byte;
            drop(RelayCertificate::read(&der.into()));
        }
    }
}
