//! Owns the noticing that a file has changed. Never reads what is in it.
//!
//! # Decisions
//! Files are looked at once a second, not announced by the operating system: secrets of orchestrators
//! are links into folders that are swapped whole, which announcements of one file miss.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often a file is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What tells a file from the one before it; none where it can't be looked at.
type Stamp = Option<(SystemTime, u64)>;

/// Files that are watched.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    stamps: Vec<Stamp>,
}

impl Watch {
    /// Watches from now on: make it before the files are read, so that no change falls between.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let stamps = stamps(&paths);
        Self { paths, stamps }
    }

    /// Calls `changed` after each change, until `stop`. A file that went away is a change when it is
    /// there again.
    pub async fn run(mut self, stop: CancellationToken, mut changed: impl FnMut()) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if self.has_changed() {
                changed();
            }
        }
    }

    fn has_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        if now == self.stamps || now.contains(&None) {
            return false;
        }
        self.stamps = now;
        true
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let seen = fs::metadata(path).ok()?;
        Some((seen.modified().ok()?, seen.len()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noticed_once_and_an_absence_not_at_all() {
        let path = std::env::temp_dir().join(format!("riskfleet-watch-{}", std::process::id()));
        fs::write(&path, "one").expect("written");
        let mut watch = Watch::new(vec![path.clone()]);
        assert!(!watch.has_changed());
        fs::write(&path, "three").expect("written");
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        fs::remove_file(&path).expect("removed");
        assert!(!watch.has_changed());
        fs::write(&path, "four more").expect("written");
        assert!(watch.has_changed());
        fs::remove_file(&path).expect("removed");
    }
}
