//! The Delegated Custody Protocol as its shipped clients speak it, revisions 0.2 to 3.1.
//!
//! Section numbers in this folder are those of the protocol's fact sheet. Clients are JavaScript programs, so
//! base64, dates, numbers and canonical JSON follow that language where it is visible in a signature.

pub mod approval;
pub mod base64;
pub mod canonical;
pub mod claim;
pub mod envelope;
pub mod fields;
pub mod frame;
pub mod invite;
pub mod invite_registration;
pub mod phrase;
pub mod push_token;
pub mod registration;
pub mod session;
pub mod stored_claim;
pub mod time;
