//! `audit verify`: every record of every chain against the one before it, what is stored against
//! the hashes in the records, and the chains against the checkpoints that were signed over them.

use super::audit_file::{each_checkpoint, public_key};
use super::audit_report::Report;
use super::{AuditSources, CliError, Exit, Screen};
use crate::cli::args::AuditVerify;
use crate::crypto::Trust;
use crate::crypto::verification::{Verification, Verified};
use crate::lifecycle::on_cores;

pub(super) async fn run(
    args: &AuditVerify,
    sources: &AuditSources<'_>,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let key = args.public_key.as_deref().map(public_key).transpose()?.or(sources.public_key);
    let trust = key.as_ref().map(Trust::of).transpose().map_err(|e| CliError::Misuse(e.to_string()))?;
    let mut verification = Verification::new(trust);
    if let (Some(outside), Some(_)) = (&args.anchor, sources.checkpoints) {
        each_checkpoint(outside, |signed| verification.outside(signed))?;
    }
    let bar = screen.bar(expected(sources, screen).await, "records");
    let verified = verification.run(sources.store, sources.checkpoints, (on_cores, &|records| bar.inc(records))).await;
    bar.finish_and_clear();
    let Verified { verdict, signatures, beyond } = verified?;
    let report = Report::new(verdict, signatures);
    if args.json {
        screen.json(&report)?;
    } else {
        report.print(screen)?;
        if beyond > 0 {
            writeln!(screen.out, "heads in old checkpoints NOT held against the chains: {beyond}")?;
        }
    }
    Ok(Exit::when(report.ok))
}

/// About how many records there are, for a bar that knows its end; only where somebody sees it.
async fn expected(sources: &AuditSources<'_>, screen: &Screen<'_>) -> Option<u64> {
    if !screen.progress {
        return None;
    }
    let ledger = sources.store.ledger().await.ok()?;
    u64::try_from(ledger.decided + ledger.dead).ok()
}
