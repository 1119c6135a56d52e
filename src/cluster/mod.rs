//! The nodes of one cluster: who is alive, which node holds which principal, and the links between them.

pub mod proto;
