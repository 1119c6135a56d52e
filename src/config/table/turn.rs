//! Settings of TURN.

use super::kinds::seconds;
use crate::config::setting::{Alias, Kind, Setting, Unit};

settings! {
    TURN_ENABLED = Setting::new(
        "RELAY_TURN_ENABLED",
        Kind::Boolean,
        "Whether libp2p peers are given credentials for a TURN server",
    )
    .or("true")
    .aliases(&[Alias::whole("DUSK_TURN_ENABLED")]);
    TURN_SECRET = Setting::new(
        "RELAY_TURN_SECRET",
        Kind::Secret,
        "The secret of a TURN server with time-limited credentials: with it, libp2p peers are given such credentials",
    )
    .aliases(&[Alias::whole("DUSK_TURN_SECRET")]);
    TURN_SECRET_FILE =
        Setting::new("RELAY_TURN_SECRET_FILE", Kind::Path, "A file with that secret, instead of RELAY_TURN_SECRET");
    TURN_PUBLIC_HOST = Setting::new(
        "RELAY_TURN_PUBLIC_HOST",
        Kind::Host,
        "Where clients reach the TURN server: a host name or an IP address",
    )
    .aliases(&[Alias::whole("DUSK_TURN_PUBLIC_HOST")]);
    TURN_PUBLIC_IP = Setting::new(
        "RELAY_TURN_PUBLIC_IP",
        Kind::Host,
        "The IP address of the TURN server, told to clients if RELAY_TURN_PUBLIC_HOST is unset",
    )
    .aliases(&[Alias::whole("DUSK_TURN_PUBLIC_IP")]);
    TURN_UDP_PORT = Setting::new(
        "RELAY_TURN_UDP_PORT",
        Kind::integer(1, 65_535, Unit::Count),
        "The port of the TURN server for UDP",
    )
    .or("3478")
    .aliases(&[Alias::whole("DUSK_TURN_UDP_PORT")]);
    TURN_TCP_PORT = Setting::new(
        "RELAY_TURN_TCP_PORT",
        Kind::integer(1, 65_535, Unit::Count),
        "The port of the TURN server for TCP",
    )
    .or("3478")
    .aliases(&[Alias::whole("DUSK_TURN_TCP_PORT")]);
    TURN_CREDENTIALS_TTL_SECS = Setting::new(
        "RELAY_TURN_CREDENTIALS_TTL_SECS",
        seconds(60, 31_536_000),
        "How long credentials for the TURN server hold",
    )
    .or("86400");
}
