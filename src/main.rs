//! The `waystation` binary.

use std::process::ExitCode;

/// Without huge pages (feature `no_thp`): one of which a few KiB are in use is resident as a whole, and idle connections
/// are many and small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("a TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    waystation::cli::run(std::env::args_os(), waystation::config::process_environment())
}
