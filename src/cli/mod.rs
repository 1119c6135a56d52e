//! The command line: reads the arguments, runs one command, and says by the exit code how it went.

mod admin;
mod args;
mod demo;
mod health;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::config::{Config, ConfigErrors, Sources, table};
use crate::node;
use args::{Arguments, Command};

/// The exit code for a wrong command line or configuration: `EX_USAGE` of BSD's `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;

/// Why a command failed; each has its exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0:#}")]
    Run(#[from] anyhow::Error),
}

/// Runs the command that `arguments` (with the program's name first) ask for, in `environment`.
///
/// Exit codes: 0 for success, [`EXIT_USAGE`] for a wrong command line or configuration (before any port opens),
/// 1 for everything else. Reasons go to standard error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: BTreeMap<String, OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match dispatch(arguments, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            match failure {
                Failure::Config(_) => EXIT_USAGE.into(),
                Failure::Run(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints what clap has to say: help and version are no failures.
fn refuse(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
    // Printing fails when the other end of a pipe is gone; then nobody is left to tell.
    error.print().map_or(ExitCode::FAILURE, |()| code)
}

fn dispatch(arguments: Arguments, environment: BTreeMap<String, OsString>) -> Result<(), Failure> {
    let command = arguments.command.unwrap_or(Command::Serve(arguments.flags));
    match command {
        Command::Serve(flags) => {
            let config = Config::load(&flags.sources(environment))?;
            block_on(node::serve(config))?;
        }
        Command::Demo { once } => block_on(demo::demo(once))?,
        Command::CheckConfig(flags) => {
            let config = Config::load(&flags.sources(environment))?;
            for name in &config.unknown_variables {
                eprintln!("warning: {name} is no setting and has no effect");
            }
            println!("OK");
        }
        Command::Health { url, flags } => {
            let url = url.map_or_else(|| local_url(&flags.sources(environment)), Ok)?;
            println!("{}", block_on(health::check(&url))?);
        }
        Command::Admin(arguments) => block_on(admin::run(arguments))?,
        Command::Bench(bench) => block_on(async { bench.run().await.map_err(anyhow::Error::from) })?,
        Command::Settings => print!("{}", table::markdown()),
    }
    Ok(())
}

/// Where the node on this machine listens. A health check knows two exit codes, so a wrong configuration is a
/// failure like any other here.
fn local_url(sources: &Sources) -> anyhow::Result<String> {
    Ok(health::local_url(Config::load(sources)?.listen))
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(arguments: &[&str]) -> ExitCode {
        let arguments = std::iter::once("waystation").chain(arguments.iter().copied()).map(OsString::from);
        run(arguments, BTreeMap::new())
    }

    #[test]
    fn the_exit_code_tells_a_wrong_configuration_from_a_right_one() {
        assert_eq!(exit(&["check-config", "--port", "9000"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["check-config", "--port", "many"]), EXIT_USAGE.into());
        assert_eq!(exit(&["--port", "many"]), EXIT_USAGE.into());
        assert_eq!(exit(&["--no-such-flag"]), EXIT_USAGE.into());
        assert_eq!(exit(&["--help"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["health", "ftp://relay.example"]), ExitCode::FAILURE);
    }
}
