//! Enumerations as words, for what is printed as JSON: the last part of their names, in lower case.

use serde::Serializer;

use super::proto::{MemberChange, PeerChange, PeerState, Phase, Service};

/// As `serving`.
///
/// # Errors
/// As the serializer.
pub fn phase<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&word(Phase::try_from(*number).unwrap_or_default().as_str_name(), "PHASE_"))
}

/// As `joined`.
///
/// # Errors
/// As the serializer.
pub fn change<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&word(MemberChange::try_from(*number).unwrap_or_default().as_str_name(), "MEMBER_CHANGE_"))
}

/// As `up`.
///
/// # Errors
/// As the serializer.
pub fn peer_state<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&word(PeerState::try_from(*number).unwrap_or_default().as_str_name(), "PEER_STATE_"))
}

/// As `added`.
///
/// # Errors
/// As the serializer.
pub fn peer_change<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&word(PeerChange::try_from(*number).unwrap_or_default().as_str_name(), "PEER_CHANGE_"))
}

/// As `vault`.
///
/// # Errors
/// As the serializer.
pub fn service<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&word(Service::try_from(*number).unwrap_or_default().as_str_name(), "SERVICE_"))
}

/// The name of a value, without that of its enumeration.
#[must_use]
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
