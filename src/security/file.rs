//! Files that settings name, read whole; and files that the relay keeps and nobody else reads.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The bytes of the file at `path`.
///
/// # Errors
/// In words, why they cannot be had, being more than `max_bytes` included.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let bytes = read_some(path, max_bytes + 1).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > max_bytes { Err(format!("must be at most {max_bytes} bytes")) } else { Ok(bytes) }
}

/// The first bytes of the file at `path`, `most` at most: one more than it may have shows that it is too long.
///
/// # Errors
/// When it cannot be read.
pub fn read_some(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes the file `name` in `folder`, with mode 0600. It is written as `unfinished` before it takes its name, so that a
/// crash leaves a whole one or none.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(folder: &Path, name: &str, unfinished: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let unfinished = folder.join(unfinished);
    // One that a crash has left may be open to others; its mode would stay.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&unfinished, folder.join(name))?;
    File::open(folder)?.sync_all()
}
