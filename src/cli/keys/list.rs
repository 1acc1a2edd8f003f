//! `keys list`: API keys, the newest first; never their texts, which nobody has.

use chrono::{DateTime, Utc};

use crate::cli::args::KeyList;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::keys::KeyView;
use crate::domain::time;
use crate::ports::keys::KeyFilter;
use crate::ports::{Keys, Registry};

/// How many are asked of the store at once.
const PAGE: u32 = 500;

pub(super) async fn run(
    args: &KeyList,
    registry: &dyn Registry,
    now: DateTime<Utc>,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let keys = read(args, registry, now).await?;
    if args.json {
        screen.json(&keys)?;
        return Ok(Exit::Done);
    }
    if keys.is_empty() {
        writeln!(screen.out, "no keys")?;
        return Ok(Exit::Done);
    }
    let mut shown = table::table(screen, &["key", "state", "tenant", "roles", "made", "expires", "used", "name"]);
    let moment = |at: Option<DateTime<Utc>>| table::text(at.map_or_else(|| "-".to_owned(), time::text));
    for key in &keys {
        shown.add_row([
            table::text(key.id),
            table::text(key.state),
            table::text(key.tenant_id.as_ref().map_or("-", |tenant| tenant.as_str())),
            table::text(key.roles.join(",")),
            moment(Some(key.created_at)),
            moment(key.expires_at),
            moment(key.last_used_at),
            table::text(&key.name),
        ]);
    }
    writeln!(screen.out, "{}", shown.trim_fmt())?;
    if keys.len() == args.limit as usize {
        writeln!(screen.out, "the newest {}; more with --limit", args.limit)?;
    }
    Ok(Exit::Done)
}

async fn read(args: &KeyList, registry: &dyn Registry, now: DateTime<Utc>) -> Result<Vec<KeyView>, CliError> {
    let mut keys: Vec<KeyView> = Vec::new();
    while keys.len() < args.limit as usize {
        let limit = PAGE.min(args.limit - keys.len() as u32);
        let filter = KeyFilter { tenant: args.tenant.clone(), before: keys.last().map(|key| key.id), limit };
        let page = Keys::list_keys(registry, &filter).await?;
        let last = page.len() < limit as usize;
        keys.extend(page.into_iter().map(|key| KeyView::of(key, now)));
        if last {
            break;
        }
    }
    Ok(keys)
}
