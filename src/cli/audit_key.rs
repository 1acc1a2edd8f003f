//! `audit key`: prints the public key that verifies the audit, or makes a new seed. Never shows a
//! seed, and never writes over one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::{CliError, Exit, Screen};
use crate::crypto::AuditKey;

/// A file that only its owner may read.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a seed as 64 hex digits into a new file of mode 0600.
///
/// # Errors
/// When the file is there already, or can't be written.
pub fn write_seed(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let mut file = private_file().create_new(true).open(path)?;
    writeln!(file, "{}", hex::encode(seed))?;
    file.sync_all()
}

/// Prints the public key.
pub fn audit_key(key: &AuditKey, screen: &mut Screen<'_>) -> Exit {
    let said = writeln!(screen.out, "{}", hex::encode(key.public()));
    screen.conclude(said.map(|()| Exit::Done).map_err(CliError::from))
}

/// Makes a seed file and prints its public key.
pub fn audit_key_new(path: &Path, seed: &[u8; 32], screen: &mut Screen<'_>) -> Exit {
    let done = write_seed(path, seed)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        .and_then(|()| writeln!(screen.out, "{}", hex::encode(AuditKey::from_seed(seed).public())));
    screen.conclude(done.map(|()| Exit::Done).map_err(CliError::from))
}
