//! `audit list`: records in the order of the chains.

use serde_json::{Value, json};

use super::args::AuditList;
use super::{CliError, Exit, Screen, table};
use crate::domain::{AuditBody, AuditRecord, Stream, TenantId, time};
use crate::ports::EventStore;
use crate::ports::store::AuditCursor;

/// How many are asked of the store at once.
const PAGE: u32 = 1_000;

pub(super) async fn run(args: &AuditList, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let limit = args.limit as usize;
    let mut records = Vec::new();
    match &args.tenant {
        None => read(store, None, limit, &mut records).await?,
        // Both chains by name, so that nothing depends on which of them comes first.
        Some(tenant) => {
            for stream in [Stream::Workflow, Stream::Control] {
                let place = Place { tenant, stream, before: args.from.unwrap_or(1) - 1 };
                read(store, Some(place), limit, &mut records).await?;
            }
        }
    }
    if args.json {
        screen.json(&records.iter().map(record_json).collect::<Vec<_>>())?;
    } else {
        print(&records, limit, screen)?;
    }
    Ok(Exit::Done)
}

/// One chain, behind one of its records.
struct Place<'a> {
    tenant: &'a TenantId,
    stream: Stream,
    before: i64,
}

/// Reads records until there are `limit` of them, or the chain of `place` ends.
async fn read(
    store: &dyn EventStore,
    place: Option<Place<'_>>,
    limit: usize,
    records: &mut Vec<AuditRecord>,
) -> Result<(), CliError> {
    let mut cursor = place.as_ref().map(|p| AuditCursor { tenant: p.tenant.clone(), stream: p.stream, seq: p.before });
    while records.len() < limit {
        let wanted = PAGE.min((limit - records.len()) as u32);
        let page = store.audit_page(cursor.as_ref(), wanted).await?;
        let mut last = page.len() < wanted as usize;
        for line in page {
            let r = line.record;
            if place.as_ref().is_some_and(|p| (p.tenant, p.stream) != (&r.tenant, r.stream)) {
                last = true;
                break;
            }
            cursor = Some(AuditCursor { tenant: r.tenant.clone(), stream: r.stream, seq: r.seq });
            records.push(r);
        }
        if last {
            break;
        }
    }
    Ok(())
}

fn print(records: &[AuditRecord], limit: usize, screen: &mut Screen<'_>) -> Result<(), CliError> {
    if records.is_empty() {
        writeln!(screen.out, "no audit records")?;
        return Ok(());
    }
    let mut table = table::table(screen, &["tenant", "stream", "seq", "at", "action", "of", "outcome", "by", "why"]);
    for r in records {
        let place = [table::text(&r.tenant), table::text(r.stream), table::figure(r.seq)];
        match serde_json::from_str::<AuditBody>(&r.body) {
            Ok(body) => table.add_row(place.into_iter().chain([
                table::text(time::text(body.at)),
                table::text(body.action),
                table::text(format!("{} {}", body.resource_type, body.resource_id)),
                table::text(body.outcome.as_deref().unwrap_or("-")),
                table::text(body.actor),
                table::text(body.reason_codes.join(" ")),
            ])),
            Err(e) => table.add_row(place.into_iter().chain([table::text(format!("unreadable: {e}"))])),
        };
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if records.len() == limit {
        writeln!(screen.out, "the first {limit}; more with --limit, or from a later record with --tenant and --from")?;
    }
    Ok(())
}

/// The shape of an export's line.
fn record_json(r: &AuditRecord) -> Value {
    json!({
        "tenant_id": r.tenant, "stream": r.stream, "seq": r.seq,
        "prev_hash": hex::encode(r.prev_hash), "hash": hex::encode(r.hash), "body": r.body,
    })
}
