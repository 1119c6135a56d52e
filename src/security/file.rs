//! Files that settings name, read whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The bytes of the file at `path`.
///
/// # Errors
/// In words, why they cannot be had, being more than `max_bytes` included.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > max_bytes { Err(format!("must be at most {max_bytes} bytes")) } else { Ok(bytes) }
}
