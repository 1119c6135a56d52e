//! What the rules promise, by example on one node ([`origin`], [`home`]) and between nodes
//! ([`forwarding`], [`moves`], [`twice`], [`losses`], [`afar`]), and whatever happens ([`model`]).

mod afar;
mod cluster;
mod forwarding;
mod home;
mod losses;
mod model;
mod moves;
mod origin;
mod pair;
mod support;
mod twice;
