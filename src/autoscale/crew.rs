//! Owns the worker processes: starts them, drains them, sees them end, and puts others in the place
//! of those that die. Never decides how many there should be.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use super::{Deed, Launch, Tell};

/// How long the place of a worker that died stays empty; doubles with each that dies soon after its
/// start.
const AGAIN_FIRST: Duration = Duration::from_secs(1);

/// The longest that a place stays empty.
const AGAIN_LONGEST: Duration = Duration::from_secs(60);

/// A worker that has run so long did not die of its start.
const STEADY: Duration = Duration::from_secs(60);

/// A process that works, or is about to end.
struct Member {
    number: u32,
    process: Child,
    address: SocketAddr,
    started: Duration,
    /// Closing it asks the worker to end. None: it was asked at `draining`.
    input: Option<ChildStdin>,
    draining: Option<Duration>,
}

/// The workers of a supervisor.
pub(super) struct Crew {
    launch: Launch,
    members: Vec<Member>,
    wanted: u32,
    /// Workers started so far.
    started: u32,
    /// Workers in a row that died soon after their start.
    died: u32,
    /// None is started before this moment.
    not_before: Duration,
}

impl Crew {
    pub(super) fn new(launch: Launch) -> Self {
        Self { launch, members: Vec::new(), wanted: 0, started: 0, died: 0, not_before: Duration::ZERO }
    }

    /// Sets how many there should be.
    pub(super) fn aim(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    /// How many there should be.
    pub(super) fn aimed(&self) -> u32 {
        self.wanted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sees who has ended, then starts or drains workers until there are as many as wanted.
    pub(super) fn turn(&mut self, now: Duration, tell: Tell<'_>) {
        let before = self.addresses();
        self.reap(now, tell);
        let working = self.members.iter().filter(|member| member.input.is_some()).count() as u32;
        if working < self.wanted && now >= self.not_before {
            (working..self.wanted).for_each(|_| self.start(now, tell));
        }
        // The newest first: the others have been at it for longer.
        let surplus = working.saturating_sub(self.wanted) as usize;
        for member in self.members.iter_mut().rev().filter(|member| member.input.is_some()).take(surplus) {
            (member.input, member.draining) = (None, Some(now));
            tell(&Deed::Draining { worker: member.number });
        }
        if before != self.addresses() {
            self.publish(tell);
        }
    }

    fn reap(&mut self, now: Duration, tell: Tell<'_>) {
        let mut still = Vec::with_capacity(self.members.len());
        for mut member in std::mem::take(&mut self.members) {
            let ended = match member.process.try_wait() {
                Ok(ended) => ended.map(|status| status.to_string()),
                Err(e) => Some(format!("failed to wait for it: {e}")),
            };
            match (ended, member.draining) {
                (Some(_), Some(_)) => tell(&Deed::Ended { worker: member.number }),
                (Some(how), None) => self.mourn(&member, how, now, tell),
                (None, Some(since)) if now.saturating_sub(since) > self.launch.drain_timeout => {
                    match member.process.kill().and_then(|()| member.process.wait()) {
                        Ok(_) => tell(&Deed::Killed { worker: member.number }),
                        Err(e) => tell(&Deed::Failed { error: format!("kill worker {}: {e}", member.number) }),
                    }
                }
                (None, _) => still.push(member),
            }
        }
        self.members = still;
    }

    fn mourn(&mut self, member: &Member, how: String, now: Duration, tell: Tell<'_>) {
        let steady = now.saturating_sub(member.started) >= STEADY;
        self.died = if steady { 0 } else { self.died.saturating_add(1) };
        let again = AGAIN_FIRST.saturating_mul(1 << self.died.saturating_sub(1).min(10)).min(AGAIN_LONGEST);
        self.not_before = now + again;
        tell(&Deed::Died { worker: member.number, how, again_in_s: again.as_secs_f64() });
    }

    fn start(&mut self, now: Duration, tell: Tell<'_>) {
        self.started += 1;
        match launch(&self.launch, self.started, now) {
            Ok(member) => {
                let (pid, address) = (member.process.id(), format!("http://{}", member.address));
                tell(&Deed::Started { worker: member.number, pid, address });
                self.members.push(member);
            }
            Err(e) => {
                self.not_before = now + AGAIN_LONGEST;
                let program = self.launch.program.display();
                tell(&Deed::Failed { error: format!("start {program}: {e}") });
            }
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Writes where the workers are, in one step, so that nobody reads half of it.
    fn publish(&self, tell: Tell<'_>) {
        let Some(path) = &self.launch.targets else { return };
        let targets: Vec<String> = self.members.iter().map(|member| member.address.to_string()).collect();
        let text = serde_json::json!([{ "targets": targets, "labels": { "job": "worker" } }]).to_string();
        if let Err(e) = replace(path, &text) {
            tell(&Deed::Failed { error: format!("write {}: {e}", path.display()) });
        }
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

fn launch(launch: &Launch, number: u32, started: Duration) -> io::Result<Member> {
    let address = free_address()?;
    let mut process = Command::new(&launch.program)
        .args(&launch.args)
        .envs(launch.settings.iter().map(|(name, value)| (name, value)))
        .args(["--until-stdin-closes", "--http-addr", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let input = process.stdin.take();
    Ok(Member { number, process, address, started, input, draining: None })
}

/// An address that nobody listens on. Should somebody take it before the worker does, the worker dies
/// and the next one gets another.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// A worker that is a shell script: it gets the arguments of one.
    fn crew(script: &str, targets: Option<PathBuf>) -> Crew {
        let args = vec!["-c".to_owned(), script.to_owned(), "worker".to_owned()];
        Crew::new(Launch { program: "/bin/sh".into(), args, settings: vec![], drain_timeout: S(5), targets })
    }

    fn until(crew: &mut Crew, now: Duration, told: &mut Vec<Deed>, what: impl Fn(&[Deed]) -> bool) {
        for _ in 0..500 {
            crew.turn(now, &mut |deed| told.push(deed.clone()));
            if what(told) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it never came: {told:?}");
    }

    #[test]
    fn workers_end_with_their_input_and_the_newest_goes_first() {
        let targets = std::env::temp_dir().join(format!("riskfleet-targets-{}.json", std::process::id()));
        let (mut crew, mut told) = (crew("cat >/dev/null", Some(targets.clone())), Vec::new());
        crew.aim(3);
        until(&mut crew, S(0), &mut told, |told| told.len() == 3);
        let listed = fs::read_to_string(&targets).expect("the addresses are written");
        assert_eq!(listed.matches("127.0.0.1:").count(), 3, "{listed}");
        crew.aim(1);
        until(&mut crew, S(1), &mut told, |told| told.len() == 7);
        let drained: Vec<&Deed> = told.iter().filter(|d| matches!(d, Deed::Draining { .. })).collect();
        assert_eq!(drained, [&Deed::Draining { worker: 3 }, &Deed::Draining { worker: 2 }]);
        assert!(told.contains(&Deed::Ended { worker: 2 }) && told.contains(&Deed::Ended { worker: 3 }));
        crew.aim(0);
        until(&mut crew, S(2), &mut told, |told| told.contains(&Deed::Ended { worker: 1 }));
        assert!(crew.is_empty());
        assert!(!fs::read_to_string(&targets).expect("written").contains("127.0.0.1"));
        fs::remove_file(targets).expect("removed");
    }

    #[test]
    fn the_place_of_one_that_dies_stays_empty_for_longer_and_longer() {
        let (mut crew, mut told) = (crew("exit 3", None), Vec::new());
        crew.aim(1);
        let died = |told: &[Deed]| told.iter().filter(|d| matches!(d, Deed::Died { .. })).count();
        for (n, at) in [0, 1, 3, 7].into_iter().enumerate() {
            until(&mut crew, S(at), &mut told, |told| died(told) == n + 1);
        }
        let waits: Vec<f64> = told
            .iter()
            .filter_map(|d| match d {
                Deed::Died { again_in_s, how, .. } => {
                    Some((how.contains('3'), *again_in_s)).filter(|(code, _)| *code).map(|(_, s)| s)
                }
                _ => None,
            })
            .collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0]);
    }

    #[test]
    fn one_that_does_not_drain_is_killed_and_a_program_that_is_not_there_is_named() {
        let (mut crew, mut told) = (crew("exec sleep 60", None), Vec::new());
        crew.aim(1);
        until(&mut crew, S(0), &mut told, |told| told.len() == 1);
        crew.aim(0);
        until(&mut crew, S(1), &mut told, |told| told.len() == 2);
        until(&mut crew, S(7), &mut told, |told| told.contains(&Deed::Killed { worker: 1 }));
        assert!(crew.is_empty());
        let launch = Launch {
            program: "/nowhere/worker".into(),
            args: vec![],
            settings: vec![],
            drain_timeout: S(1),
            targets: None,
        };
        let (mut crew, mut told) = (Crew::new(launch), Vec::new());
        crew.aim(1);
        crew.turn(S(0), &mut |deed| told.push(deed.clone()));
        assert!(
            matches!(&told[..], [Deed::Failed { error }] if error.starts_with("start /nowhere/worker: ")),
            "{told:?}"
        );
    }
}
