//! What a verification of the audit has found, for people and for scripts. Never verifies.

use serde::Serialize;

use super::screen::{Ink, clean};
use super::{CliError, Screen, table};
use crate::crypto::checkpoint::Signatures;
use crate::domain::chains::{FINDINGS_MAX, Finding, Verdict};

/// How many findings a table shows.
const BAD_SHOWN: usize = 50;

/// What a verification has found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub ok: bool,
    /// Records looked at.
    pub records: u64,
    /// Chains they form.
    pub chains: u64,
    /// Signatures of checkpoints, anchors and the manifest.
    pub signatures: Signatures,
    /// How much is wrong.
    pub bad_total: u64,
    /// The first of it.
    pub bad: Vec<Finding>,
}

impl Report {
    /// A verdict with the signatures beside it.
    pub(super) fn new(verdict: Verdict, signatures: Signatures) -> Self {
        let Verdict { records, chains, findings } = verdict;
        Self { ok: findings.total == 0, records, chains, signatures, bad_total: findings.total, bad: findings.kept }
    }

    pub(super) fn print(&self, screen: &mut Screen<'_>) -> Result<(), CliError> {
        let Self { records, chains, bad_total, .. } = self;
        if self.ok {
            let verdict = screen.paint(Ink::Green, "audit is whole");
            writeln!(screen.out, "{verdict}: {records} records in {chains} chains")?;
        } else {
            let verdict = screen.paint(Ink::Red, "audit is NOT whole");
            writeln!(screen.out, "{verdict}: {bad_total} bad of {records} records in {chains} chains")?;
            self.print_bad(screen)?;
        }
        let Signatures { checked, unchecked } = self.signatures;
        if checked > 0 {
            writeln!(screen.out, "signatures checked: {checked}")?;
        }
        if unchecked > 0 {
            let advice = "give --public-key (`riskfleet audit key` prints it) to check them";
            writeln!(screen.out, "signatures NOT checked: {unchecked}; {advice}")?;
        }
        Ok(())
    }

    fn print_bad(&self, screen: &mut Screen<'_>) -> Result<(), CliError> {
        let mut table = table::table(screen, &["tenant", "stream", "seq", "why"]);
        for b in self.bad.iter().take(BAD_SHOWN) {
            table.add_row([
                table::text(&b.tenant),
                table::text(&b.stream),
                table::figure(b.seq),
                table::text(clean(&b.why)),
            ]);
        }
        writeln!(screen.out, "{}", table.trim_fmt())?;
        if self.bad_total > BAD_SHOWN as u64 {
            writeln!(screen.out, "the first {BAD_SHOWN}; the first {FINDINGS_MAX} with --json")?;
        }
        Ok(())
    }
}
