//! What the rules promise, by example ([`origin`], [`home`], [`moves`]), and for whole clusters ([`model`]).

mod cluster;
mod model;
mod support;
