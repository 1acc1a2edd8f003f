//! `audit key`: prints the public key that verifies the audit, or makes a new seed. Never shows a
//! seed, and never writes over one.

use serde_json::json;
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
pub fn audit_key(key: &AuditKey, as_json: bool, screen: &mut Screen<'_>) -> Exit {
    let said = show(key, as_json, screen);
    screen.conclude(said.map(|()| Exit::Done).map_err(CliError::from))
}

fn show(key: &AuditKey, as_json: bool, screen: &mut Screen<'_>) -> io::Result<()> {
    let public = hex::encode(key.public());
    match as_json {
        true => writeln!(screen.out, "{}", json!({"public_key": public, "key_id": key.id()})),
        false => writeln!(screen.out, "{public}"),
    }
}

/// Makes a seed file and prints its public key.
pub fn audit_key_new(path: &Path, seed: &[u8; 32], as_json: bool, screen: &mut Screen<'_>) -> Exit {
    let done = write_seed(path, seed)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        .and_then(|()| show(&AuditKey::from_seed(seed), as_json, screen));
    screen.conclude(done.map(|()| Exit::Done).map_err(CliError::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_key_with_its_id() {
        let key = AuditKey::from_seed(&[7; 32]);
        let said = |as_json| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            assert_eq!(audit_key(&key, as_json, &mut Screen::plain(&mut out, &mut err)), Exit::Done);
            String::from_utf8(out).expect("text")
        };
        let document: serde_json::Value = serde_json::from_str(&said(true)).expect("JSON");
        assert_eq!(document, json!({"public_key": said(false).trim_end(), "key_id": key.id()}));
    }
}
