//! The name in a certificate that has been verified, for the log: its subject's common name (RFC 5280, section 4.1).

/// The tags of ASN.1 that are met on the way (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// `2.5.4.3`, the common name, with its tag and length.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// Longest name that is given (RFC 5280, appendix A.1: `ub-common-name`).
const MAX_NAME_BYTES: usize = 64;

/// The common name of a certificate's subject, control characters replaced; `None` if it has none that can be read.
#[must_use]
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        (_, _, rest) = element(rest)?;
    }
    let (tag, mut subject, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    while !subject.is_empty() {
        let (_, set, next) = element(subject)?;
        let (_, attribute, _) = element(set)?;
        if let Some(value) = attribute.strip_prefix(&COMMON_NAME) {
            let (_, name, _) = element(value)?;
            let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME_BYTES)?;
            return Some(name.replace(char::is_control, "?"));
        }
        subject = next;
    }
    None
}

/// The first element of `bytes`: its tag, what is in it, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(length)?;
    Some((*tag, inside, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

    use super::*;

    /// A certificate for `subject` by an authority of another name.
    fn certificate(subject: Option<&str>) -> Vec<u8> {
        let named = |name: Option<&str>| {
            let mut params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            name.into_iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, name));
            params
        };
        let issuer = CertifiedIssuer::self_signed(named(Some("authority")), KeyPair::generate().unwrap()).unwrap();
        named(subject).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_is_the_subjects_and_not_the_authoritys() {
        assert_eq!(common_name(&certificate(Some("ops.example"))).as_deref(), Some("ops.example"));
        assert_eq!(common_name(&certificate(Some("a\nb"))).as_deref(), Some("a?b"));
        assert_eq!(common_name(&certificate(None)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            drop(common_name(&bytes));
            let mut der = certificate(Some("x"));
            let at = at % der.len();
            der[at] = byte;
            drop(common_name(&der));
        }
    }
}
