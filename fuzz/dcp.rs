//! What vaults, agents and phones send by the Delegated Custody Protocol.

use std::net::{IpAddr, Ipv4Addr};

use bolero::check;
use waystation::domain::limits::{MAX_ID_BYTES, REQUEST_TTL};
use waystation::wire::dcp::approval::{Approval, MAX_REASON_BYTES, denied_reason};
use waystation::wire::dcp::canonical::canonical;
use waystation::wire::dcp::claim::Claim;
use waystation::wire::dcp::envelope::{RecordId, Unchecked};
use waystation::wire::dcp::frame::{self, Frame};
use waystation::wire::dcp::invite::Invite;
use waystation::wire::dcp::invite_registration::InviteRegistration;
use waystation::wire::dcp::push_token::{MAX_PUSH_TOKEN_BYTES, PushToken};
use waystation::wire::dcp::registration::{Registration, Verified, verify_proof};
use waystation::wire::dcp::session::{self, MAX_TOKEN_BYTES, Pair, SessionId};
use waystation::wire::dcp::stored_claim::PairingResult;

use super::{ITERATIONS, NOW};

#[test]
fn frame() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Some(frame) = Frame::parse(input) else { return };
        let mut kind = String::new();
        frame::push_string(&mut kind, &frame.kind);
        assert_eq!(serde_json::from_str::<String>(&kind).unwrap(), frame.kind);
        let Some(payload) = frame.payload else { return };
        let written = frame::write("request", payload.get(), NOW);
        assert_eq!(frame::payload_of(&written), payload.get());
        let again = Frame::parse(written.as_bytes()).expect("what was written is a frame");
        assert_eq!((&*again.kind, again.payload.map(|payload| payload.get())), ("request", Some(payload.get())));
    });
}

#[test]
fn envelope() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Some(unchecked) = Unchecked::parse(input) else { return };
        let request_id = unchecked.request_id().map(str::to_owned);
        match unchecked.check(NOW) {
            Ok(envelope) => {
                assert!((1..=MAX_ID_BYTES).contains(&envelope.vault_id.len()));
                assert!((1..=MAX_ID_BYTES).contains(&envelope.request_id.len()));
                assert!(envelope.expires > NOW && envelope.expires <= NOW.plus(REQUEST_TTL));
                assert_eq!(request_id.as_deref(), Some(&*envelope.request_id));
            }
            Err(error) => assert!(error.code().starts_with("RELAY_") && error.to_string().len() < 512),
        }
    });
}

#[test]
fn record_id() {
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(json) = std::str::from_utf8(input) else { return };
        let id = RecordId::of(json, HERE);
        assert_ne!(id, RecordId::of(json, THERE));
        if let Ok(value) = serde_json::from_str::<&serde_json::value::RawValue>(json) {
            assert_eq!(id, RecordId::of(value.get(), HERE));
            assert_eq!(id, RecordId::of(&format!("\n {json}\t\r"), HERE));
        }
    });
}

#[test]
fn registration() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        match Registration::parse(input).and_then(|registration| registration.verify(NOW)) {
            Ok(verified) => check_verified(&verified),
            Err(error) => assert!(error.code().starts_with("RELAY_")),
        }
    });
}

#[test]
fn proof() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let in_body = verify_proof(input, None, NOW);
        if let Ok(verified) = &in_body {
            check_verified(verified);
            assert_eq!(verify_proof(input, Some(verified.vault_id.as_str()), NOW), in_body);
        }
    });
}

fn check_verified(verified: &Verified) {
    assert!((1..=MAX_ID_BYTES).contains(&verified.vault_id.as_str().len()));
}

#[test]
fn claim() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(claim) = Claim::verify(input, NOW) else { return };
        assert!(matches!(claim.phrase().split('-').count(), 3 | 4));
        let again = Claim::verify(claim.submitted.get().as_bytes(), NOW).expect("the claim as sent verifies again");
        assert_eq!((again.invite_id, again.agent_public_key), (claim.invite_id, claim.agent_public_key));
    });
}

#[test]
fn invite() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(invite) = Invite::verify(input, NOW) else { return };
        assert!(invite.expires_at > NOW && invite.invite_id.len() <= MAX_ID_BYTES);
        // Other spellings of an invite verify like the one that was sent.
        let body = format!(r#"{{"invite":{}}}"#, canonical(&invite.submitted).expect("it was signed in this form"));
        let again = Invite::verify(body.as_bytes(), NOW).expect("the canonical form verifies too");
        assert_eq!((again.invite_id, again.requested_scopes), (invite.invite_id, invite.requested_scopes));
    });
}

#[test]
fn approval() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        if let Ok(approval) = Approval::verify(input, "mob_0123456789abcdef", NOW) {
            assert_eq!(approval.invite.invite_id, "mob_0123456789abcdef");
            assert_eq!(approval.agent_id, approval.invite.requested_agent_id);
            assert!(approval.approved_scopes.iter().all(|scope| approval.invite.requested_scopes.contains(scope)));
        }
        assert!(denied_reason(input).is_none_or(|reason| (1..=MAX_REASON_BYTES).contains(&reason.len())));
    });
}

#[test]
fn pairing_result() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        if let Ok(result) = PairingResult::parse(input) {
            assert!((1..=MAX_ID_BYTES).contains(&result.claim_id.len()));
            assert!((1..=MAX_ID_BYTES).contains(&result.vault_id.as_str().len()));
            assert!(result.agent_id.is_none_or(|id| (1..=MAX_ID_BYTES).contains(&id.len())));
        }
    });
}

#[test]
fn invite_registration() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        if let Ok(registration) = InviteRegistration::parse(input) {
            assert!((1..=MAX_ID_BYTES).contains(&registration.invite_id.len()));
            assert!((1..=MAX_ID_BYTES).contains(&registration.vault_id.as_str().len()));
        }
    });
}

#[test]
fn push_token() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(token) = PushToken::parse(input) else { return };
        assert!(token.token.len() <= MAX_PUSH_TOKEN_BYTES && token.token.starts_with("Expo"));
        assert!(token.token.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!((1..=MAX_ID_BYTES).contains(&token.vault_id.as_str().len()));
        assert!(!token.platform.is_empty());
    });
}

#[test]
fn session_pair() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(pair) = Pair::parse(input) else { return };
        assert!(!pair.vault_id.is_empty() && (1..=MAX_TOKEN_BYTES).contains(&pair.token.len()));
        let shown = session::pair(&SessionId([7; 16]), &pair.vault_id, &pair.token);
        assert_eq!(Pair::parse(shown.as_bytes()), Ok(pair));
    });
}
