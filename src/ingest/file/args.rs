//! Owns the command line of the import. Never runs it.

use std::path::PathBuf;
use std::{io::IsTerminal, time::Duration};

use super::{ImportOptions, Input};
use crate::domain::TenantId;

/// `riskfleet-ingest file`.
#[derive(Debug, Clone, clap::Args)]
pub struct FileArgs {
    /// The NDJSON file; `-` for what is piped in
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The tenant of lines that name none
    #[arg(long, value_name = "TENANT", value_parser = TenantId::claimed)]
    pub tenant: Option<TenantId>,
    /// What makes the key of a line that has none, before its number; the file's hash when not
    /// given. What is piped in can't be hashed first, so its lines need a key or this
    #[arg(long, value_name = "PREFIX")]
    pub key_prefix: Option<String>,
    /// Where to note how far it is; PATH.progress when not given
    #[arg(long, value_name = "FILE")]
    pub progress: Option<PathBuf>,
    /// Where to write the refused lines; PATH.rejected.ndjson when not given
    #[arg(long, value_name = "FILE")]
    pub rejected: Option<PathBuf>,
    /// How long to try again while the fleet takes nothing, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = ImportOptions::PATIENCE.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub patience: u64,
}

impl From<FileArgs> for ImportOptions {
    fn from(args: FileArgs) -> Self {
        let piped = args.path.as_os_str() == "-";
        let input = if piped { Input::Piped(Box::new(tokio::io::stdin())) } else { Input::File(args.path) };
        Self {
            tenant: args.tenant,
            key_prefix: args.key_prefix,
            progress_file: args.progress,
            rejected_file: args.rejected,
            patience: Duration::from_secs(args.patience),
            show_progress: std::io::stderr().is_terminal(),
            ..Self::new(input)
        }
    }
}
