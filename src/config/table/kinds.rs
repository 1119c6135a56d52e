//! Shorthands for the kinds of the table.

use crate::config::setting::{Kind, Unit};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;

pub(super) const fn count(min: u64, max: u64) -> Kind {
    Kind::integer(min, max, Unit::Count)
}

pub(super) const fn per_minute(max: u64) -> Kind {
    Kind::integer(1, max, Unit::PerMinute)
}

pub(super) const fn bytes(min: u64, max: u64) -> Kind {
    Kind::integer(min, max, Unit::Bytes)
}

pub(super) const fn seconds(min: u64, max: u64) -> Kind {
    Kind::integer(min, max, Unit::Seconds)
}

pub(super) const fn choice(accepted: &'static [&'static str]) -> Kind {
    Kind::Choice { accepted, replaced: &[] }
}
