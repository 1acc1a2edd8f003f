//! What the integration tests share: the servers they were given, and names of their own on them.

pub(crate) mod fleet;
pub(crate) mod process;
pub(crate) mod traffic;

/// The address of a server that `tests/run.sh` started, or that the caller gave.
///
/// # Panics
/// When the variable is unset: a test that can't run has failed.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run ./tests/run.sh, which starts private servers, or name one in {variable}")
    })
}

/// The address of the Postgres server, a superuser's.
pub(crate) fn postgres_url() -> String {
    server("RISKFLEET_TEST_DATABASE_URL")
}

/// The address of the Redis server.
pub(crate) fn redis_url() -> String {
    server("RISKFLEET_TEST_REDIS_URL")
}

/// The address of the RabbitMQ server.
pub(crate) fn amqp_url() -> String {
    server("RISKFLEET_TEST_AMQP_URL")
}

/// A namespace that no other test uses: `t` and 12 hex digits.
pub(crate) fn namespace() -> String {
    let bits = uuid::Uuid::new_v4().simple().to_string();
    format!("t{}", &bits[..12])
}
