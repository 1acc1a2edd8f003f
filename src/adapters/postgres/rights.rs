//! Owns what the fleet's roles may do: THE table of grants, and row-level security. Set by
//! `migrate`, for every table that stands then.
//!
//! # Decisions
//! A table with a `tenant_id` has row-level security, forced, so that not even its owner passes by
//! owning it; [`Role::Api`] sees the rows of the tenant that its transaction names, and without a
//! name none. Tables that hold an event's id in its place follow the event. A time partition can be
//! asked by its own name, so nobody has a right on it: it is read through its parent, whose rules
//! hold then.
//!
//! A table that is not in [`GRANTS`] gets what its shape allows; a test lists them all.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::connect::failed;
use super::roles::Role;
use crate::ports::StoreError;

/// What the roles may do with a table: the initials of SELECT, INSERT, UPDATE and DELETE. Nobody may
/// TRUNCATE.
struct Grants {
    table: &'static str,
    api: &'static str,
    worker: &'static str,
    retention: &'static str,
}

const fn grants(table: &'static str, api: &'static str, worker: &'static str, retention: &'static str) -> Grants {
    Grants { table, api, worker, retention }
}

/// THE table: role by role what each needs, and no more.
const GRANTS: [Grants; 30] = [
    // Never changed once written. A dead letter that is replayed loses its row by `reopen_dead`.
    grants("events", "S", "SI", "S"),
    grants("decisions", "S", "SI", "S"),
    grants("keys", "S", "SI", "SD"),
    // What fell outside every day: for those who see every tenant anyway.
    grants("events_default", "", "S", "S"),
    grants("decisions_default", "", "S", "S"),
    // Append-only.
    grants("audit", "SI", "SI", "SI"),
    grants("audit_checkpoints", "", "SI", "S"),
    grants("audit_anchors", "S", "SI", "SI"),
    grants("dead_history", "SI", "SI", "S"),
    grants("verdicts", "SI", "SI", "S"),
    grants("approval_history", "SI", "SI", "S"),
    // Worked on.
    grants("approvals", "SIU", "SIU", "S"),
    grants("retries", "S", "SIUD", "S"),
    grants("outbox", "I", "SIUD", "S"),
    grants("inbox_rejected", "", "SI", "SD"),
    // Governance: what answers a tenant's caller sees no key, sealed or hashed.
    grants("api_keys", "", "SIU", ""),
    grants("data_keys", "", "SIU", "S"),
    grants("vault", "", "SU", "S"),
    grants("versions", "SIU", "SIU", "S"),
    grants("activations", "SIU", "SIU", "S"),
    grants("activation_clock", "", "SU", "S"),
    grants("tenants", "S", "SIU", "S"),
    grants("costs", "S", "SIU", "S"),
    grants("budgets", "S", "SIUD", "S"),
    grants("day_tenants", "", "SIUD", "SIUD"),
    grants("expired_days", "S", "S", "S"),
    // The fleet's own; `fleet` holds the secret of the packs.
    grants("fleet", "", "SU", "S"),
    grants("partitions", "", "SU", "S"),
    grants("workers", "", "SIUD", "S"),
    grants("_sqlx_migrations", "", "S", "S"),
];

/// What a table gets that is not there: one with a `tenant_id`, and one without.
const OF_TENANTS: Grants = grants("", "SIUD", "SIUD", "SD");
const OF_THE_FLEET: Grants = grants("", "", "SIUD", "SD");

/// The functions that run with the owner's rights, and who may call them. Each looks for itself
/// whether what it does may be done.
const FUNCTIONS: [(&str, &[Role]); 5] = [
    ("keep_partitions", &[Role::Worker]),
    ("outbox_kinds", &[Role::Api, Role::Worker]),
    ("reopen_dead", &[Role::Api]),
    ("drop_day", &[Role::Retention]),
    ("prune_audit", &[Role::Worker]),
];

/// Tables without a `tenant_id` whose rows belong to their event's tenant.
const BY_EVENT: [&str; 2] = ["retries", "dead_history"];

/// A table as it stands.
struct Table {
    name: String,
    is_time_partition: bool,
    has_tenant: bool,
    is_forced: bool,
    policies: Vec<String>,
}

/// Sets grants and policies of every table and function of the schema. Beside running processes it
/// waits for a table only where that table's row-level security is not yet what it shall be.
pub(super) async fn apply(connection: &mut PgConnection, namespace: &str) -> Result<(), StoreError> {
    let [api, worker, retention] = Role::ALL.map(|role| role.name(namespace));
    let usage = format!(
        "GRANT USAGE ON SCHEMA {namespace} TO {api}, {worker}, {retention};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {namespace} TO {api}, {worker}, {retention};"
    );
    run(connection, usage).await?;
    // One table a transaction: a lane that holds one is never waited for while another is held.
    // Policies first, so that no right stands for a moment without them.
    for table in tables(connection, namespace).await? {
        if let Some(securing) = securing(&table, namespace) {
            run(connection, securing).await?;
        }
        run(connection, granting(&table, namespace)).await?;
    }
    for (name, arguments) in definers(connection, namespace).await? {
        let callable = format!("{namespace}.{name}({arguments})");
        // No caller's search path or temporary table turns a name in it.
        let mut sql = format!(
            "ALTER FUNCTION {callable} SET search_path = {namespace}, pg_temp;
             REVOKE EXECUTE ON FUNCTION {callable} FROM PUBLIC, {api}, {worker}, {retention};"
        );
        let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
        for role in known.map_or(&[] as &[Role], |(_, roles)| *roles) {
            sql.push_str(&format!("GRANT EXECUTE ON FUNCTION {callable} TO {};", role.name(namespace)));
        }
        run(connection, sql).await?;
    }
    Ok(())
}

/// Several statements in one message are one transaction. Every name in them is the catalogue's or
/// the namespace's, quoted where it may need it.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(failed)
}

async fn tables(connection: &mut PgConnection, namespace: &str) -> Result<Vec<Table>, StoreError> {
    let rows = sqlx::query(
        "SELECT quote_ident(c.relname), c.relispartition, c.relrowsecurity AND c.relforcerowsecurity,
                EXISTS (SELECT 1 FROM pg_attribute a
                        WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped),
                ARRAY(SELECT quote_ident(p.polname) FROM pg_policy p WHERE p.polrelid = c.oid ORDER BY 1)
         FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') ORDER BY c.relname",
    )
    .bind(namespace)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let table = |row: &sqlx::postgres::PgRow| {
        Ok(Table {
            name: row.try_get(0).map_err(failed)?,
            is_time_partition: row.try_get(1).map_err(failed)?,
            is_forced: row.try_get(2).map_err(failed)?,
            has_tenant: row.try_get(3).map_err(failed)?,
            policies: row.try_get(4).map_err(failed)?,
        })
    };
    rows.iter().map(table).collect()
}

/// The functions that run with the owner's rights, with the types of their arguments.
async fn definers(connection: &mut PgConnection, namespace: &str) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT quote_ident(p.proname), pg_get_function_identity_arguments(p.oid) FROM pg_proc p
         WHERE p.pronamespace = to_regnamespace($1) AND p.prosecdef ORDER BY p.proname",
    )
    .bind(namespace)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter().map(|row| Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?))).collect()
}

fn granting(table: &Table, namespace: &str) -> String {
    let name = format!("{namespace}.{}", table.name);
    let [api, worker, retention] = Role::ALL.map(|role| role.name(namespace));
    let mut sql = format!("REVOKE ALL ON {name} FROM PUBLIC, {api}, {worker}, {retention};");
    let rights = match GRANTS.iter().find(|grants| grants.table == table.name) {
        Some(rights) => rights,
        None if table.is_time_partition => return sql,
        None if table.has_tenant => &OF_TENANTS,
        None => &OF_THE_FLEET,
    };
    for (role, letters) in [(api, rights.api), (worker, rights.worker), (retention, rights.retention)] {
        if !letters.is_empty() {
            sql.push_str(&format!("GRANT {} ON {name} TO {role};", privileges(letters)));
        }
    }
    sql
}

fn privileges(letters: &str) -> String {
    let all = [('S', "SELECT"), ('I', "INSERT"), ('U', "UPDATE"), ('D', "DELETE")];
    all.iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// What makes the row-level security of a table what it shall be; none when it is. A policy is known
/// by its name: one that shall say something else gets another.
fn securing(table: &Table, namespace: &str) -> Option<String> {
    let name = format!("{namespace}.{}", table.name);
    let policies = policies(table, namespace);
    let stands = table.policies.iter().map(String::as_str).eq(policies.iter().map(|(policy, _)| *policy));
    if policies.is_empty() || stands && table.is_forced {
        return None;
    }
    let mut sql = format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;");
    for old in &table.policies {
        sql.push_str(&format!("DROP POLICY {old} ON {name};"));
    }
    for (policy, rule) in policies {
        sql.push_str(&format!("CREATE POLICY {policy} ON {name} {rule};"));
    }
    Some(sql)
}

/// The policies of a table by name, in the order of their names.
fn policies(table: &Table, namespace: &str) -> Vec<(&'static str, String)> {
    let [api, worker, retention] = Role::ALL.map(|role| role.name(namespace));
    let fleet = ("fleet", format!("TO {worker}, {retention} USING (true)"));
    let rule = if BY_EVENT.contains(&table.name.as_str()) {
        // The event is looked up under its own policy. A plain subquery is a probe a row; EXISTS
        // may be planned as a scan of all events.
        format!("SELECT true FROM {namespace}.events e WHERE e.event_id = {}.event_id", table.name)
    } else if table.has_tenant {
        // A subquery, so that the setting is read once a statement.
        "SELECT current_setting('riskfleet.tenant', true)".to_owned()
    } else {
        return Vec::new();
    };
    if table.is_time_partition {
        return vec![fleet];
    }
    let left = if table.has_tenant { "tenant_id = " } else { "" };
    // Without a WITH CHECK of its own a policy holds for what is written as for what is read.
    vec![fleet, ("tenant", format!("TO {api} USING ({left}({rule}))"))]
}
