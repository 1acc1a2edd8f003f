//! What `riskfleet up` tells the person in front of it, at the beginning and at the end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::WiringError;
use super::single::Fleet;
use crate::cli::args::AuditVerify;
use crate::cli::{self, AuditSources, Exit, Screen};

/// Writes to standard output. A person who has closed it no longer wants to be told.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    _ = writeln!(out, "{text}");
    _ = out.flush();
}

/// Whether the summary line may be redrawn.
pub(super) fn redraws() -> bool {
    std::io::stdout().is_terminal()
}

/// The address, and a line to paste.
pub(super) fn greet(fleet: &Fleet) {
    let url = format!("{}://{}", if fleet.tls { "https" } else { "http" }, fleet.address);
    say(&format!(
        "riskfleet is up: {workers} workers, data in {data}

  API    {url}      document at /openapi.json, page at /docs, metrics at /metrics
  Try    curl -s {url}/v1/risk -H 'Content-Type: application/json' \\
              -H 'X-Tenant-ID: acme' -H \"X-Idempotency-Key: $(date +%s%N)\" -H 'Prefer: wait=2' \\
              -d '{{\"version\":\"1.0\",\"event_type\":\"payment\",\"subject\":\"acct-42\",\"amount\":1250,\"currency\":\"EUR\"}}'
  Look   {program} --data {data} events list   (also: explain EVENT, fleet status, audit verify)
  Stop   Ctrl-C
",
        workers = fleet.workers,
        program = std::env::args().next().unwrap_or_else(|| "riskfleet".into()),
        data = fleet.data.display(),
    ));
}

/// Waits until everything accepted is decided, or patience ends.
pub(super) async fn last_decisions(fleet: &Fleet, patience: Duration) {
    let until = fleet.clock.elapsed() + patience;
    while fleet.clock.elapsed() < until {
        match fleet.store.ledger().await {
            Ok(ledger) if ledger.pending == 0 => return,
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "failed to read the ledger"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The ledger; for a demo also the audit, verified.
pub(super) async fn farewell(fleet: &Fleet, verify: bool) -> Result<(), WiringError> {
    let l = fleet.store.ledger().await?;
    say(&format!(
        "\nledger  accepted {} = decided {} + dead {} + pending {}",
        l.accepted, l.decided, l.dead, l.pending
    ));
    if !verify {
        return Ok(());
    }
    let (checkpoints, key) = &fleet.proof;
    let sources = AuditSources { store: &*fleet.store, checkpoints: Some(&**checkpoints), public_key: Some(*key) };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut screen = Screen::detected(&mut out, &mut err);
    match cli::audit_verify(&AuditVerify::default(), &sources, &mut screen).await {
        Exit::Done => Ok(()),
        Exit::Failed | Exit::Misused => Err(WiringError::Address("verify the audit".into())),
    }
}
