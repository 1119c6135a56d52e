//! What the rules promise, by example ([`origin`], [`home`], [`moves`]), and whatever happens ([`model`]).

mod cluster;
mod home;
mod model;
mod moves;
mod origin;
mod support;
