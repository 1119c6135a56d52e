//! Settings of the search for GIFs.

use super::kinds::{GIB, bytes, per_minute, seconds};
use crate::config::setting::{Alias, Kind, Setting};

settings! {
    P2P_GIF_API_KEY = Setting::new(
        "RELAY_P2P_GIF_API_KEY",
        Kind::Token,
        "The key that the provider of GIFs has given; unset: peers are told that there are none",
    )
    .aliases(&[Alias::whole("KLIPY_API_KEY")]);
    P2P_GIF_API_KEY_FILE = Setting::new(
        "RELAY_P2P_GIF_API_KEY_FILE",
        Kind::Path,
        "A file with that key",
    );
    P2P_GIF_URL = Setting::new(
        "RELAY_P2P_GIF_URL",
        Kind::Url,
        "Where the provider of GIFs is asked, in the form of klipy",
    )
    .or("https://api.klipy.com/v2");
    P2P_GIF_TIMEOUT_SECS = Setting::new(
        "RELAY_P2P_GIF_TIMEOUT_SECS",
        seconds(1, 14),
        "How long it may take; clients wait for 15 seconds",
    )
    .or("10");
    P2P_GIF_RATE_LIMIT = Setting::new(
        "RELAY_P2P_GIF_RATE_LIMIT",
        per_minute(100_000),
        "Calls of this node to it, an eighth of them for one address; the alias stands for 100",
    )
    .or("3000")
    .aliases(&[Alias::switch("KLIPY_TEST_KEY", "100")]);
    P2P_GIF_PEER_RATE_LIMIT = Setting::new(
        "RELAY_P2P_GIF_PEER_RATE_LIMIT",
        per_minute(100_000_000),
        "Searches for GIFs of one libp2p peer",
    )
    .or("60");
    P2P_GIF_ADDRESS_RATE_LIMIT = Setting::new(
        "RELAY_P2P_GIF_ADDRESS_RATE_LIMIT",
        per_minute(100_000_000),
        "Searches for GIFs from one address",
    )
    .or("600");
    P2P_GIF_CACHE_BYTES = Setting::new(
        "RELAY_P2P_GIF_CACHE_BYTES",
        bytes(0, 64 * GIB),
        "Memory for what was found: searches are kept for 30 minutes, what is liked now for 10",
    )
    .or("16777216");
}
