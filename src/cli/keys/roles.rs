//! `keys roles`: the table of roles and permissions, as it stands in the code.

use serde_json::{Map, Value, json};

use crate::cli::args::KeyRoles;
use crate::cli::{CliError, Exit, Screen, table};
use crate::domain::{Permission, Role};

pub(super) fn run(args: &KeyRoles, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if args.json {
        let row = |role: &Role| {
            let allowed = Permission::ALL.iter().filter(|permission| role.allows(**permission));
            (role.as_str().to_owned(), json!(allowed.map(|permission| permission.as_str()).collect::<Vec<_>>()))
        };
        screen.json(&Role::ALL.iter().map(row).collect::<Map<String, Value>>())?;
        return Ok(Exit::Done);
    }
    let headings: Vec<&str> = ["permission"].into_iter().chain(Role::ALL.map(Role::as_str)).collect();
    let mut shown = table::table(screen, &headings);
    for permission in Permission::ALL {
        let cells = Role::ALL.iter().map(|role| if role.allows(*permission) { "yes" } else { "-" });
        shown.add_row([permission.as_str()].into_iter().chain(cells).map(table::text));
    }
    writeln!(screen.out, "{}", shown.trim_fmt())?;
    writeln!(screen.out, "each holds inside the caller's tenant; OPERATOR belongs to none")?;
    Ok(Exit::Done)
}
