//! What keeps strangers out: the secret of the cluster and what is derived from it.

pub mod cluster_secret;
pub mod tls;
