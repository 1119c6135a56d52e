//! What the rules promise, by example on one node ([`origin`], [`home`]) and between nodes
//! ([`forwarding`], [`moves`], [`twice`], [`losses`]) and clusters ([`afar`], [`further`]), and whatever happens
//! ([`model`]).

mod afar;
mod cluster;
mod forwarding;
mod further;
mod home;
mod losses;
mod model;
mod moves;
mod origin;
mod pair;
mod support;
mod twice;
