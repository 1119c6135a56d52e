//! Pure rules: no input or output, no clock, no randomness of their own. Whatever changes from run to run
//! (`now`, fresh identifiers) is passed in, so every rule here can be tested by calling it.

pub mod clock;
pub mod ids;
pub mod limits;
pub mod placement;
pub mod principal;
