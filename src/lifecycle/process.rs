//! Owns what the system says of this process: processor, memory, files. Linux only (`/proc`); nothing
//! is made up where it does not say.

use std::fs;
use std::time::Duration;

/// Ticks of the processor's clock a second, as the kernel shows them to programs: its ABI has 100 on
/// all of Linux' common machines (proc(5), `USER_HZ`).
const TICKS_A_SECOND: u64 = 100;

/// What this process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Of the processor, by all of its threads, in the program and in the kernel.
    pub cpu: Duration,
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// Its threads.
    pub threads: u64,
}

/// What this process uses now; none where the system does not say.
pub fn usage() -> Option<Usage> {
    read_stat(&fs::read_to_string("/proc/self/stat").ok()?, resident_bytes()?)
}

/// Files, sockets and pipes that this process holds open.
pub fn open_files() -> Option<u64> {
    // Less the one that lists them.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// When this process began, since 1970: the boot's time and, behind it, the process's (proc(5),
/// `/proc/stat` and field 22 of `/proc/pid/stat`).
pub fn began() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: u64 = own.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()?;
    Some(Duration::from_secs(boot) + Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
}

/// Of proc(5), `/proc/pid/status`.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Of proc(5), `/proc/pid/stat`: utime is field 14, stime 15, num_threads 20. The second field is the
/// program's name in parentheses, and may hold anything.
fn read_stat(stat: &str, resident_bytes: u64) -> Option<Usage> {
    let (_, behind) = stat.rsplit_once(") ")?;
    let field = |n: usize| behind.split(' ').nth(n - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Usage { cpu: Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND), resident_bytes, threads: field(20)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "4711 (a) 1 2 (b) ) S 1 4711 4711 0 -1 4194560 2000 0 0 0 150 25 0 0 20 0 7 0 99 1 2 3";
        let usage = read_stat(line, 5).expect("a line of the kernel's");
        assert_eq!(usage, Usage { cpu: Duration::from_millis(1_750), resident_bytes: 5, threads: 7 });
        assert_eq!(read_stat("", 0), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        let usage = usage().expect("Linux says");
        assert!(usage.resident_bytes > 1_000_000 && usage.threads >= 1, "{usage:?}");
        assert!(open_files().expect("Linux says") >= 3);
    }
}
