//! Every setting, in one table: what is not here cannot be set.

/// Names each setting and lists them all, so that none can be missing from the list.
macro_rules! settings {
    ($($id:ident = $setting:expr;)*) => {
        $(pub(in crate::config) static $id: Setting = $setting;)*

        /// These, in the order in which they are documented.
        pub(super) static LISTED: &[&Setting] = &[$(&$id),*];
    };
}

mod gif;
mod gossip;
mod kinds;
mod p2p;
mod print;
mod services;
mod turn;

use super::setting::Setting;

pub(super) use gif::*;
pub(super) use gossip::*;
pub(super) use p2p::*;
pub use print::{help, markdown};
pub(super) use services::*;
pub(super) use turn::*;

/// The parts of the table.
const PARTS: [&[&Setting]; 5] = [services::LISTED, p2p::LISTED, gossip::LISTED, gif::LISTED, turn::LISTED];

/// How many settings there are.
const COUNT: usize = {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

static ALL: [&Setting; COUNT] = {
    let mut all = [services::LISTED[0]; COUNT];
    let (mut part, mut at, mut of_part) = (0, 0, 0);
    while at < COUNT {
        if of_part == PARTS[part].len() {
            (part, of_part) = (part + 1, 0);
            continue;
        }
        all[at] = PARTS[part][of_part];
        (at, of_part) = (at + 1, of_part + 1);
    }
    all
};

/// All settings, in the order in which they are documented.
pub static SETTINGS: &[&Setting] = &ALL;

#[cfg(test)]
mod tests;
