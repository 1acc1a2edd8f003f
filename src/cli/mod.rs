//! Role: cli.
