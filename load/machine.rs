//! Owns the watching of processes through /proc: CPU time of whole process trees, and their memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A process, with all its descendants or alone.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) alone: bool,
}

/// What a tree used while it was watched.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub(crate) name: String,
    /// Seconds of CPU.
    pub(crate) cpu_s: f64,
    /// The most memory it had at once, in bytes.
    pub(crate) memory_peak: u64,
}

/// Linux counts CPU time for programs in units of 1/100 s (proc(5), sysconf(_SC_CLK_TCK)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Watches trees until it is told to stop.
pub(crate) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Usage>>,
}

impl Watch {
    /// Begins.
    pub(crate) fn start(trees: Vec<Tree>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let before: Vec<u64> = trees.iter().map(|tree| look(tree, &children()).ticks).collect();
        let task = tokio::spawn(async move {
            let mut usage: Vec<Usage> =
                trees.iter().map(|t| Usage { name: t.name.clone(), cpu_s: 0.0, memory_peak: 0 }).collect();
            let mut last = false;
            loop {
                let children = children();
                for ((tree, before), usage) in trees.iter().zip(&before).zip(&mut usage) {
                    let seen = look(tree, &children);
                    usage.cpu_s = usage.cpu_s.max(seen.ticks.saturating_sub(*before) as f64 / TICKS_PER_SECOND);
                    usage.memory_peak = usage.memory_peak.max(seen.memory);
                }
                if last {
                    return usage;
                }
                last = tokio::time::timeout(Duration::from_millis(500), &mut stopped).await.is_ok();
            }
        });
        Self { stop, task }
    }

    /// Ends, with a last look.
    pub(crate) async fn stop(self) -> Vec<Usage> {
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

/// A tree at one moment.
#[derive(Debug, Default)]
struct Seen {
    ticks: u64,
    memory: u64,
}

/// The children of every process.
fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return children };
    for pid in entries.flatten().filter_map(|e| e.file_name().to_str().and_then(|name| name.parse::<u32>().ok())) {
        if let Some(fields) = stat(pid) {
            children.entry(u32::try_from(fields[1]).unwrap_or(0)).or_default().push(pid);
        }
    }
    children
}

fn look(tree: &Tree, children: &BTreeMap<u32, Vec<u32>>) -> Seen {
    let (mut seen, mut shared) = (Seen::default(), 0);
    let (mut open, mut done) = (vec![tree.pid], BTreeSet::new());
    while let Some(pid) = open.pop() {
        if !done.insert(pid) {
            continue;
        }
        if !tree.alone {
            open.extend(children.get(&pid).into_iter().flatten());
        }
        if let Some(fields) = stat(pid) {
            // utime, stime, and in a tree those of children that have ended: nothing is counted twice.
            seen.ticks += fields[11..if tree.alone { 13 } else { 15 }].iter().sum::<u64>();
        }
        // Pages that processes share are counted once, as the most that one of them has mapped.
        let (own, mapped) = memory(pid);
        seen.memory += own;
        shared = shared.max(mapped);
    }
    seen.memory += shared;
    seen
}

/// Fields 3 and on of /proc/PID/stat; the state letter, which is no number, reads as 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<u64> = text.rsplit_once(')')?.1.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    (fields.len() >= 15).then_some(fields)
}

/// Resident bytes of a process: its own, and those it shares with others or with files.
fn memory(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (field("RssAnon:"), field("RssFile:") + field("RssShmem:"))
}

#[cfg(test)]
mod tests {
    use super::{Tree, children, look};

    #[test]
    fn a_process_finds_itself() {
        let seen = look(&Tree { name: "own".into(), pid: std::process::id(), alone: true }, &children());
        assert!(seen.memory > 100_000, "{seen:?}");
    }
}
