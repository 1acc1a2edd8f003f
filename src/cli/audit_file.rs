//! `audit verify FILE`: an export against itself, its signatures, and checkpoints that were kept
//! elsewhere. Needs no settings and no store. Never holds more than a few blocks of the file.
//!
//! # Decisions
//! The signed lines stand behind the records, but say what the records must be: the file is read
//! twice, once for the lines that are signed (which costs little more than finding the ends of
//! lines), once for all. The second time one thread reads, as many as there are cores take the
//! lines apart and hash, and one puts the results in order. Claims of checkpoints are bounded; for
//! more of them the file is read once more.

mod lines;
mod signed;

use std::path::{Path, PathBuf};

use super::audit_report::Report;
use super::{CliError, Exit, Screen};
use crate::cli::args::AuditVerify;
use crate::crypto::Trust;
use crate::domain::chains::{Chains, Verdict};
use crate::domain::checkpoint::bytes_from_hex;
pub(super) use signed::each_checkpoint;
use signed::{SignedLines, Wanted};

/// What a file is verified against.
#[derive(Debug, Clone, Default)]
pub struct FileCheck {
    /// The public key; without one signatures are not checked.
    pub public_key: Option<[u8; 32]>,
    /// Checkpoints that were kept elsewhere.
    pub anchor: Option<PathBuf>,
}

/// Reads the argument of `--public-key`: 64 hex digits, or a file that holds them.
pub(super) fn public_key(said: &str) -> Result<[u8; 32], CliError> {
    let unreadable = |why: String| CliError::Input {
        file: said.to_owned(),
        why,
        advice: "give the 64 hex digits that `riskfleet audit key` prints, or a file that holds them",
    };
    if let Some(key) = bytes_from_hex(said) {
        return Ok(key);
    }
    let text = std::fs::read_to_string(said).map_err(|e| unreadable(e.to_string()))?;
    bytes_from_hex(text.trim()).ok_or_else(|| unreadable("it holds no public key of 64 hex digits".into()))
}

pub(super) async fn run(file: &Path, args: &AuditVerify, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let check =
        FileCheck { public_key: args.public_key.as_deref().map(public_key).transpose()?, anchor: args.anchor.clone() };
    let bytes = std::fs::metadata(file).ok().map(|m| m.len());
    let bar = screen.bar(bytes, "bytes");
    let (file, seen) = (file.to_owned(), bar.clone());
    let verified = tokio::task::spawn_blocking(move || verify_file(&file, &check, &|bytes| seen.inc(bytes)));
    let report = verified.await.map_err(std::io::Error::other)??;
    bar.finish_and_clear();
    if args.json {
        screen.json(&report)?;
    } else {
        report.print(screen)?;
    }
    Ok(Exit::when(report.ok))
}

/// Verifies an export; tells `progress` the bytes that were read. Blocks.
///
/// # Errors
/// When the file or the anchor file can't be read, or the key is none.
pub fn verify_file(path: &Path, check: &FileCheck, progress: &(dyn Fn(u64) + Sync)) -> Result<Report, CliError> {
    let trust = check.public_key.as_ref().map(Trust::of).transpose();
    let trust = trust.map_err(|e| CliError::Misuse(e.to_string()))?;
    let wanted = Wanted { trust, outside: check.anchor.as_deref() };
    let mut passes: Option<(Verdict, SignedLines)> = None;
    for window in 0.. {
        let mut signed = signed::read(path, &wanted, window)?;
        let (claims, anchors) = (std::mem::take(&mut signed.claims), std::mem::take(&mut signed.anchors));
        let mut chains = Chains::new(claims, anchors);
        lines::take_all(path, &mut chains, progress)?;
        let verdict = chains.finish(signed.manifest.as_ref());
        let more = signed.more;
        passes = Some(match passes.take() {
            None => (verdict, signed),
            Some((mut first, kept)) => {
                first.findings.append(verdict.findings);
                (first, kept)
            }
        });
        if !more {
            break;
        }
    }
    let (mut verdict, signed) = passes.unwrap_or_default();
    verdict.findings.append(signed.findings);
    verdict.findings.kept.sort();
    Ok(Report::new(verdict, signed.signatures))
}
