//! Reads the lines of an export that are signed, and the file of checkpoints that was kept
//! elsewhere, and says what the records must agree with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::super::CliError;
use super::lines::{LINE_BYTES_MAX, unreadable};
use crate::crypto::Trust;
use crate::crypto::checkpoint::{CheckpointCheck, Completeness, Signatures, Worth};
use crate::domain::audit::Hash;
use crate::domain::chains::{Claimant, Claims, Finding, Findings};
use crate::domain::checkpoint::{Anchor, Checkpoint, EXPORT_FORMAT, Manifest, ManifestLine, NotedHead, Signed, key_id};
use crate::domain::export::{MANIFEST, SIGNED};

/// Claims that are held at once: some 130 MB.
const CLAIMS_MAX: usize = 2_000_000;

/// Anchors that are held: one a chain.
const ANCHORS_MAX: usize = 1_000_000;

/// What the file is held against.
pub(super) struct Wanted<'a> {
    pub(super) trust: Option<Trust>,
    pub(super) outside: Option<&'a Path>,
}

/// What the signed lines say.
#[derive(Default)]
pub(super) struct SignedLines {
    pub(super) claims: Claims,
    pub(super) anchors: Vec<NotedHead>,
    pub(super) manifest: Option<Manifest>,
    pub(super) signatures: Signatures,
    pub(super) findings: Findings,
    /// Further claims wait for the next window.
    pub(super) more: bool,
}

/// The claims of one window, counted over the whole file.
struct Window {
    from: usize,
    counted: usize,
}

impl Window {
    fn add(&mut self, into: &mut SignedLines, head: &NotedHead, by: Claimant) {
        if self.counted >= self.from + CLAIMS_MAX {
            into.more = true;
        } else if self.counted >= self.from {
            into.claims.add(head, by);
        }
        self.counted += 1;
    }
}

/// Reads what is signed; of the claims, those of the window.
pub(super) fn read(path: &Path, wanted: &Wanted<'_>, window: usize) -> Result<SignedLines, CliError> {
    let mut signed = SignedLines::default();
    let mut window = Window { from: window * CLAIMS_MAX, counted: 0 };
    let elsewhere = match wanted.outside {
        Some(outside) => outside_texts(outside, wanted, &mut signed)?,
        None => HashMap::new(),
    };
    let mut check = CheckpointCheck::new(wanted.trust.clone(), Completeness::Whole).against(elsewhere);
    let (mut checkpoints, mut anchors) = (0, Vec::new());
    let mut manifests: Vec<(u64, Result<ManifestLine, String>)> = Vec::new();
    let lines = each_line(path, |nth, line| {
        if line.starts_with(MANIFEST) {
            manifests.truncate(1);
            manifests.push((nth, serde_json::from_slice(line).map_err(|e| e.to_string())));
        } else if line.starts_with(SIGNED) {
            match serde_json::from_slice::<Signed>(line) {
                Ok(text) if text.text.starts_with("{\"anchor\":") && anchors.len() < ANCHORS_MAX => anchors.push(text),
                Ok(text) => {
                    checkpoints += 1;
                    let Some(checkpoint) = check.take(&text) else { return };
                    for head in &checkpoint.heads {
                        window.add(&mut signed, head, Claimant::Checkpoint(checkpoint.number));
                    }
                }
                Err(e) => {
                    let why = format!("wrong signature: line {nth} can't be read: {e}");
                    signed.findings.add(Finding::of_checkpoint(0, why));
                }
            }
        }
    });
    let lines = lines.map_err(|e| unreadable(path, &e))?;
    let checked = check.finish();
    signed.signatures.checked += checked.signatures.checked;
    signed.signatures.unchecked += checked.signatures.unchecked;
    signed.findings.append(checked.findings);
    let held = take_manifest(&mut signed, checked.trust.as_ref(), manifests, (lines, checkpoints), &mut window);
    take_anchors(&mut signed, wanted.trust.is_some(), held.root.as_ref().or(checked.trust.as_ref()), &anchors);
    if let Some(outside) = wanted.outside {
        claim_outside(outside, &mut signed, held.signed, &mut window)?;
    }
    Ok(signed)
}

/// What the manifest's signature is good for.
struct Held {
    /// The key that it names itself, where no other was given.
    root: Option<Trust>,
    /// A key that was given has signed it.
    signed: bool,
}

fn take_manifest(
    signed: &mut SignedLines,
    trust: Option<&Trust>,
    manifests: Vec<(u64, Result<ManifestLine, String>)>,
    (lines, checkpoints): (u64, u64),
    window: &mut Window,
) -> Held {
    let mut held = Held { root: None, signed: false };
    let mut wrong = |why: String| signed.findings.add(Finding::of_checkpoint(0, why));
    let (line, last) = match <[_; 1]>::try_from(manifests) {
        Ok([(nth, Ok(line))]) => (line, nth),
        Ok([(_, Err(why))]) => {
            wrong(format!("wrong signature: the manifest can't be read: {why}"));
            return held;
        }
        Err(none) if none.is_empty() => {
            wrong("truncated tail: the manifest is missing".into());
            return held;
        }
        Err(_) => {
            wrong("inserted: there are two manifests".into());
            return held;
        }
    };
    if last != lines {
        wrong(format!("inserted: {} lines stand behind the manifest", lines - last));
    }
    match (trust, &line.signature, &line.public_key) {
        (Some(trust), Some(signature), Some(key)) => match trust.worth(&key_id(key), &line.manifest, signature) {
            Worth::Holds => {
                signed.signatures.checked += 1;
                held.signed = true;
            }
            Worth::Wrong => wrong("wrong signature: its key has not signed the manifest".into()),
            Worth::Unknown => wrong("wrong signature: the manifest is signed by a key that is not known".into()),
        },
        (Some(_), _, _) => wrong("wrong signature: the manifest is not signed".into()),
        (None, Some(_), Some(key)) => {
            signed.signatures.unchecked += 1;
            held.root = Trust::of(key).ok();
        }
        (None, _, _) => {}
    }
    let manifest = match Manifest::parse(&line.manifest) {
        Ok(manifest) if manifest.manifest == EXPORT_FORMAT => manifest,
        Ok(other) => {
            wrong(format!("wrong signature: the export is of format {}, not {EXPORT_FORMAT}", other.manifest));
            return held;
        }
        Err(e) => {
            wrong(format!("wrong signature: the manifest can't be read: {e}"));
            return held;
        }
    };
    if manifest.checkpoints != checkpoints {
        let why = format!("the manifest says {} checkpoints, there are {checkpoints}", manifest.checkpoints);
        wrong(format!("checkpoint chain broken: {why}"));
    }
    for head in &manifest.chains {
        window.add(signed, head, Claimant::Manifest);
    }
    signed.manifest = Some(manifest);
    held
}

/// Honours only anchors whose signature holds: with the key that was given, or else with the key
/// that the export names itself.
fn take_anchors(signed: &mut SignedLines, given: bool, trust: Option<&Trust>, anchors: &[Signed]) {
    for text in anchors {
        let anchor = match Anchor::parse(&text.text) {
            Ok(anchor) => anchor,
            Err(e) => {
                let why = format!("wrong signature: an anchor can't be read: {e}");
                signed.findings.add(Finding::of_checkpoint(0, why));
                continue;
            }
        };
        let worth = trust.map_or(Worth::Unknown, |trust| trust.worth(&anchor.key_id, &text.text, &text.signature));
        if worth == Worth::Holds {
            let count = if given { &mut signed.signatures.checked } else { &mut signed.signatures.unchecked };
            *count += 1;
            let Anchor { tenant_id, stream, seq, hash, .. } = anchor;
            signed.anchors.push(NotedHead { tenant_id, stream, seq, hash });
        } else {
            let why = "wrong signature: no known key has signed the anchor that this chain begins with";
            signed.findings.add(Finding::of(&(anchor.tenant_id, anchor.stream), anchor.seq, why));
        }
    }
}

/// Verifies the file that was kept elsewhere, and gives the hashes of its texts.
fn outside_texts(path: &Path, wanted: &Wanted<'_>, signed: &mut SignedLines) -> Result<HashMap<i64, Hash>, CliError> {
    let mut check = CheckpointCheck::new(wanted.trust.clone(), Completeness::Parts).keeping_texts();
    each_checkpoint(path, |text| _ = check.take(text))?;
    let checked = check.finish();
    signed.signatures.checked += checked.signatures.checked;
    signed.signatures.unchecked += checked.signatures.unchecked;
    signed.findings.append(checked.findings);
    Ok(checked.texts)
}

/// Adds what the outside checkpoints say of the chains in the export. One that is younger than the
/// export can't be held against it; its moment is believed only out of a signed manifest.
fn claim_outside(
    path: &Path,
    signed: &mut SignedLines,
    manifest_holds: bool,
    window: &mut Window,
) -> Result<(), CliError> {
    let until = signed.manifest.as_ref().filter(|_| manifest_holds).map(|m| m.at);
    let only = signed.manifest.as_ref().and_then(|m| m.tenant_id.clone());
    each_checkpoint(path, |text| {
        let Ok(checkpoint) = Checkpoint::parse(&text.text) else { return };
        if until.is_some_and(|until| checkpoint.at > until) {
            return;
        }
        for head in checkpoint.heads.iter().filter(|h| only.as_ref().is_none_or(|only| *only == h.tenant_id)) {
            window.add(signed, head, Claimant::Outside(checkpoint.number));
        }
    })
}

/// Every checkpoint of a file outside; an unfinished last line is passed over.
pub(crate) fn each_checkpoint(path: &Path, mut take: impl FnMut(&Signed)) -> Result<(), CliError> {
    let mut wrong = None;
    let lines = each_line(path, |nth, line| match serde_json::from_slice::<Signed>(line) {
        Ok(text) => take(&text),
        Err(e) => wrong = wrong.take().or(Some((nth, e.to_string()))),
    });
    let lines = lines.map_err(|e| unreadable(path, &e))?;
    match wrong {
        Some((nth, why)) if nth < lines => {
            let advice = "name the file that RISKFLEET_CHECKPOINT_FILE has written, or a copy of it";
            Err(CliError::Input { file: path.display().to_string(), why: format!("line {nth}: {why}"), advice })
        }
        _ => Ok(()),
    }
}

/// Every line with its number, without its end; gives how many there are.
fn each_line(path: &Path, mut take: impl FnMut(u64, &[u8])) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let (mut line, mut nth) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = Read::by_ref(&mut file).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(nth);
        }
        nth += 1;
        take(nth, line.strip_suffix(b"\n").unwrap_or(&line));
    }
}
