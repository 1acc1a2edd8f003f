//! `tenants show`: what is set of one tenant.

use super::list::{kept, line_json};
use crate::cli::args::OneTenant;
use crate::cli::screen::clean;
use crate::cli::{CliError, Exit, Screen};
use crate::domain::time;
use crate::ports::Registry;

pub(super) async fn run(args: &OneTenant, registry: &dyn Registry, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let found = registry.tenant(&args.tenant).await?;
    let tenant = found.ok_or_else(|| CliError::NoTenant(args.tenant.clone()))?;
    if args.json {
        screen.json(&line_json(&tenant))?;
        return Ok(Exit::Done);
    }
    writeln!(screen.out, "tenant {}", tenant.id)?;
    writeln!(screen.out, "  kept        {}", kept(tenant.retention_days))?;
    match &tenant.hold {
        None => writeln!(screen.out, "  legal hold  none")?,
        Some(hold) => {
            let (at, by, reason) = (time::text(hold.at), clean(&hold.by), clean(&hold.reason));
            writeln!(screen.out, "  legal hold  since {at}, by {by}: {reason}")?;
        }
    }
    Ok(Exit::Done)
}
