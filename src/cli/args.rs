//! What the command line may say. The doc comments here are the manual that `--help` prints.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Sources, table};

/// A relay for end-to-end encrypted traffic between people who cannot reach each other directly.
///
/// Without a command it serves, and takes the flags of `serve`; `waystation serve --help` lists all settings.
#[derive(Debug, Parser)]
#[command(name = "waystation", version, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) flags: SettingFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a node until it is told to stop (the default).
    #[command(after_help = table::help())]
    Serve(SettingFlags),
    /// Run a small cluster on this machine and show it at work.
    Demo {
        /// Show it once and exit; fails if anything is not as it should be.
        #[arg(long)]
        once: bool,
    },
    /// Check the configuration and exit: prints OK, or all errors with exit code 64.
    CheckConfig(SettingFlags),
    /// Ask a node whether it is healthy: exit code 0 if so, else 1 with the reason.
    Health {
        /// The node, `http://host:port` or the whole URL of its /health; by default the one on this machine.
        url: Option<String>,
        #[command(flatten)]
        flags: SettingFlags,
    },
    /// Ask a node, and tell it what to do, over its port for operators.
    Admin(crate::cli::admin::AdminArgs),
    /// Measure a relay, this one or another, from outside.
    Bench(crate::bench::args::BenchArgs),
    /// Print the table of settings in Markdown.
    #[command(hide = true)]
    Settings,
}

/// Settings given as flags. Their values are read with all others, so that all errors come together.
#[derive(Debug, Args)]
pub(super) struct SettingFlags {
    /// Read settings from this TOML file [env: RELAY_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on this port (part of RELAY_LISTEN_ADDR)
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Listen on this address (part of RELAY_LISTEN_ADDR)
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Requests to one vault per minute (RELAY_VAULT_RATE_LIMIT)
    #[arg(long, value_name = "NUMBER")]
    rate_limit: Option<String>,
    /// Close idle agent connections after this (RELAY_IDLE_TIMEOUT_MS)
    #[arg(long, value_name = "MILLISECONDS")]
    timeout: Option<String>,
    /// What is logged (RELAY_LOG_LEVEL)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl SettingFlags {
    /// The sources of the configuration: these flags, the file that they or `environment` name, `environment`.
    pub(super) fn sources(&self, environment: BTreeMap<String, OsString>) -> Sources {
        let flags = [
            ("--port", &self.port),
            ("--host", &self.host),
            ("--rate-limit", &self.rate_limit),
            ("--timeout", &self.timeout),
            ("--log-level", &self.log_level),
        ];
        let given = flags.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        Sources::new(self.config.clone(), environment, given)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::config::Config;

    /// The configuration that `serve` would run with.
    fn config(arguments: &[&str]) -> Config {
        let arguments = Arguments::try_parse_from(std::iter::once(&"waystation").chain(arguments)).unwrap();
        let flags = match arguments.command {
            Some(Command::Serve(flags)) => flags,
            None => arguments.flags,
            Some(other) => panic!("{other:?} is not serve"),
        };
        Config::load(&flags.sources(BTreeMap::new())).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_work_with_and_without_serve() {
        let flags =
            ["--port", "9000", "--host", "::1", "--rate-limit", "5", "--timeout", "2000", "--log-level", "warn"];
        for config in [config(&flags), config(&[&["serve"][..], &flags].concat())] {
            assert_eq!(config.listen.to_string(), "[::1]:9000");
            assert_eq!(config.vault.rate.get(), 5);
            assert_eq!(config.limits.idle_timeout.as_secs(), 2);
            assert_eq!(config.log.level, "warn");
        }
    }

    #[test]
    fn every_flag_of_the_table_is_on_the_command_line() {
        let command = Arguments::command();
        let offered: BTreeSet<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for flag in table::SETTINGS.iter().flat_map(|setting| setting.flags) {
            assert!(offered.contains(flag.name.trim_start_matches('-')), "{}", flag.name);
        }
    }

    #[test]
    fn the_help_of_serve_lists_the_settings() {
        let error = Arguments::try_parse_from(["waystation", "serve", "-h"]).unwrap_err();
        assert!(error.to_string().contains("RELAY_CLUSTER_SECRET_FILE"), "{error}");
    }
}
