//! Rules that hold between settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::setting::Setting;
use super::table;
use super::values::Values;
use crate::security::file;
use crate::security::reload::{Fault, Reloaded};

/// Room in a send queue beside the largest message: what the relay wraps around it.
const ENVELOPE_BYTES: u64 = 1024;

/// A file longer than this is not a secret that somebody meant, in bytes.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// That a send queue holds the largest message.
pub(super) fn send_queue(values: &Values) -> Result<(), ConfigError> {
    if values.is_faulty(&table::SEND_QUEUE_BYTES) || values.is_faulty(&table::MAX_MESSAGE_SIZE) {
        return Ok(());
    }
    let queue: u64 = values.integer(&table::SEND_QUEUE_BYTES)?;
    let least = values.integer::<u64>(&table::MAX_MESSAGE_SIZE)? + ENVELOPE_BYTES;
    if queue < least { Err(ConfigError::QueueTooSmall { queue, margin: ENVELOPE_BYTES, least }) } else { Ok(()) }
}

/// A secret, from its setting or from its file; white space around it does not count.
pub(super) fn secret(values: &Values, direct: &Setting, file: &Setting) -> Result<Option<Secret>, ConfigError> {
    direct_or_file(values, direct, file, parse::secret)
}

/// The same of a token that somebody else has made, and that is as long as they like.
pub(super) fn token(values: &Values, direct: &Setting, file: &Setting) -> Result<Option<Secret>, ConfigError> {
    direct_or_file(values, direct, file, |bytes| {
        let text = std::str::from_utf8(bytes.trim_ascii()).ok()?;
        parse::token(text).filter(|token| !token.expose().is_empty())
    })
}

fn direct_or_file(
    values: &Values,
    direct: &Setting,
    file: &Setting,
    parse: impl Fn(&[u8]) -> Option<Secret>,
) -> Result<Option<Secret>, ConfigError> {
    let read = |path: &Path| {
        let bytes = file::read(path, MAX_SECRET_FILE_BYTES)?;
        parse(&bytes).ok_or_else(|| format!("must hold {}", direct.kind))
    };
    let named = values.optional(file, parse::path)?;
    match (values.optional(direct, |text| parse(text.as_bytes()))?, named) {
        (Some(_), Some(_)) => Err(ConfigError::TwoSecrets { direct: direct.name, file: file.name }),
        (None, Some(path)) => read(&path).map(Some).map_err(|reason| ConfigError::named_file(file, path, reason)),
        (direct, None) => Ok(direct),
    }
}

/// What is made of files that settings name, now and whenever they change.
pub(super) fn reloaded<T>(
    name: &'static str,
    files: &[(&'static Setting, PathBuf)],
    make: fn(&[Vec<u8>]) -> Result<T, Fault>,
) -> Result<Reloaded<T>, ConfigError> {
    Reloaded::new(name, files.iter().map(|(_, path)| path.clone()).collect(), make).map_err(|fault| {
        let setting = files.get(fault.index).map_or("", |(setting, _)| setting.name);
        ConfigError::NamedFile { setting, path: fault.path, reason: fault.reason }
    })
}

/// What the addresses for other nodes ask for: a secret when strangers can reach them, and a host to advertise
/// when they say none.
pub(super) fn cluster(values: &Values, has_secret: bool) -> Vec<ConfigError> {
    // A value that has been refused is reported already; that it is then missing would mislead.
    let has_secret =
        has_secret || values.is_faulty(&table::CLUSTER_SECRET) || values.is_faulty(&table::CLUSTER_SECRET_FILE);
    let advertised = matches!(values.optional(&table::ADVERTISE_HOST, parse::host), Ok(Some(_)))
        || values.is_faulty(&table::ADVERTISE_HOST);
    let mut errors = Vec::new();
    for setting in [&table::GRPC_ADDR, &table::GOSSIP_ADDR] {
        if values.is_faulty(setting) {
            continue;
        }
        let Ok(ip) = values.address(setting).as_ref().map(SocketAddr::ip) else { continue };
        if !has_secret && !ip.is_loopback() {
            errors.push(ConfigError::NeedsSecret { setting: setting.name });
        }
        if !advertised && ip.is_unspecified() {
            errors.push(ConfigError::NeedsAdvertiseHost { setting: setting.name });
        }
    }
    errors
}
