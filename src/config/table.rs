//! Every setting, in one table: what is not here cannot be set.

/// Names each setting and lists them all, so that none can be missing from the list.
macro_rules! settings {
    ($($id:ident = $setting:expr;)*) => {
        $(pub(in crate::config) static $id: Setting = $setting;)*

        /// These, in the order in which they are documented.
        pub(super) static LISTED: &[&Setting] = &[$(&$id),*];
    };
}

mod kinds;
mod p2p;
mod print;
mod services;

use super::setting::Setting;

pub(super) use p2p::*;
pub use print::{help, markdown};
pub(super) use services::*;

/// How many settings there are.
const COUNT: usize = services::LISTED.len() + p2p::LISTED.len();

static ALL: [&Setting; COUNT] = {
    let mut all = [services::LISTED[0]; COUNT];
    let mut at = 0;
    while at < COUNT {
        let of_services = services::LISTED.len();
        all[at] = if at < of_services { services::LISTED[at] } else { p2p::LISTED[at - of_services] };
        at += 1;
    }
    all
};

/// All settings, in the order in which they are documented.
pub static SETTINGS: &[&Setting] = &ALL;

#[cfg(test)]
mod tests;
