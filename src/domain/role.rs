//! Owns who may do what: roles, permissions, and the one table between them. Never looks at a
//! credential, and knows nothing of tenants: a role holds inside its caller's tenant.
//!
//! | | ADMIN | ANALYST | APPROVER | VIEWER | OPERATOR | PRODUCER |
//! |---|---|---|---|---|---|---|
//! | `create` | x | x | | | | x |
//! | `view` | x | x | x | x | | x |
//! | `approve` | x | | x | | | |
//! | `comment` | x | x | x | | | x |
//! | `read_audit` | x | x | x | x | x | x |
//! | `register_model` | x | | | | | |
//! | `manage_dead_letters` | x | | | | | |
//! | `fleet` | | | | | x | |
//! | `manage_keys` | x | | | | x | |
//! | `manage_tenants` | | | | | x | |
//! | `hold_tenant` | x | | | | x | |
//! | `erase` | x | | | | x | |
//! | `view_costs` | x | x | x | x | x | x |

use std::fmt;

/// What a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything of its tenant.
    Admin,
    /// Sends and reads.
    Analyst,
    /// Decides what the workflow escalates.
    Approver,
    /// Reads.
    Viewer,
    /// Runs the fleet; sees nothing of any tenant.
    Operator,
    /// Sends events and reads its own: what a token without roles is. No token can name it; an API
    /// key is never without roles, and names it.
    Producer,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Send events.
    Create,
    /// Read events, decisions and dead letters.
    View,
    /// Decide what the workflow escalates.
    Approve,
    /// Say something about what the workflow escalates: who sends events may explain them.
    Comment,
    /// Read the audit: an operator the fleet's own, others their tenant's.
    ReadAudit,
    /// Put models, prompts and policies.
    RegisterModel,
    /// Replay and discard dead letters.
    ManageDeadLetters,
    /// See the fleet, and ask it to repair.
    Fleet,
    /// Make, list and revoke API keys: an operator everybody's, others their own tenant's.
    ManageKeys,
    /// List tenants, set how long theirs is kept, drop what is old.
    ManageTenants,
    /// See a tenant, put it under legal hold and release it: an operator any, others their own.
    HoldTenant,
    /// Destroy the key of a subject, or of a tenant: an operator any tenant's, others their own.
    Erase,
    /// See what decisions have cost, and the budgets: an operator any tenant's, others their own.
    ViewCosts,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::Analyst, Self::Approver, Self::Viewer, Self::Operator, Self::Producer];

    /// The roles that a token can name.
    pub const NAMED: [Self; 5] = [Self::Admin, Self::Analyst, Self::Approver, Self::Viewer, Self::Operator];

    /// THE table: what each role allows.
    fn permissions(self) -> &'static [Permission] {
        use Permission::{
            Approve, Comment, Create, Erase, Fleet, HoldTenant, ManageDeadLetters, ManageKeys, ManageTenants,
            ReadAudit, RegisterModel, View, ViewCosts,
        };
        match self {
            Self::Admin => &[
                Create,
                View,
                Approve,
                Comment,
                ReadAudit,
                RegisterModel,
                ManageDeadLetters,
                ManageKeys,
                HoldTenant,
                Erase,
                ViewCosts,
            ],
            Self::Analyst | Self::Producer => &[Create, View, Comment, ReadAudit, ViewCosts],
            Self::Approver => &[Approve, View, Comment, ReadAudit, ViewCosts],
            Self::Viewer => &[View, ReadAudit, ViewCosts],
            Self::Operator => &[Fleet, ReadAudit, ManageKeys, ManageTenants, HoldTenant, Erase, ViewCosts],
        }
    }

    /// Whether the role includes the permission.
    pub fn allows(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// The upper-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Analyst => "ANALYST",
            Self::Approver => "APPROVER",
            Self::Viewer => "VIEWER",
            Self::Operator => "OPERATOR",
            Self::Producer => "PRODUCER",
        }
    }

    /// Reads the upper-case name of a role that a token can name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|role| role.as_str() == raw)
    }

    /// Reads the upper-case name of a role that an API key can hold: every one.
    pub fn parse_of_key(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == raw)
    }
}

impl Permission {
    /// Every permission, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::View,
        Self::Approve,
        Self::Comment,
        Self::ReadAudit,
        Self::RegisterModel,
        Self::ManageDeadLetters,
        Self::Fleet,
        Self::ManageKeys,
        Self::ManageTenants,
        Self::HoldTenant,
        Self::Erase,
        Self::ViewCosts,
    ];

    /// Its name, as the table, the documents and refusals write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::View => "view",
            Self::Approve => "approve",
            Self::Comment => "comment",
            Self::ReadAudit => "read_audit",
            Self::RegisterModel => "register_model",
            Self::ManageDeadLetters => "manage_dead_letters",
            Self::Fleet => "fleet",
            Self::ManageKeys => "manage_keys",
            Self::ManageTenants => "manage_tenants",
            Self::HoldTenant => "hold_tenant",
            Self::Erase => "erase",
            Self::ViewCosts => "view_costs",
        }
    }

    /// Reads the name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == raw)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_for_every_pair_and_is_written_at_the_top_of_this_file() {
        let written: Vec<Vec<&str>> = include_str!("role.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! |"))
            .map(|row| row.trim_end_matches('|').split('|').map(str::trim).collect())
            .collect();
        let roles: Vec<Role> = written[0][1..].iter().filter_map(|name| Role::parse_of_key(name)).collect();
        assert_eq!(roles, Role::ALL);
        let rows = &written[2..];
        let named: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(named, Permission::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>());
        for row in rows {
            let permission = Permission::parse(row[0].trim_matches('`')).expect("a permission");
            for (role, cell) in roles.iter().zip(&row[1..]) {
                assert_eq!(role.allows(permission), *cell == "x", "{} {permission}", role.as_str());
            }
        }
    }

    #[test]
    fn names_read_back_and_no_token_can_name_a_producer() {
        for role in Role::NAMED {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse_of_key("PRODUCER"), Some(Role::Producer));
        for unknown in ["PRODUCER", "admin", "ROOT", ""] {
            assert_eq!(Role::parse(unknown), None, "{unknown}");
        }
    }
}
