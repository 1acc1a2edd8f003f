//! Owns how fast a fleet may follow a verdict on its size: how long after a change, and by how many at
//! once. Pure: time is given.
//!
//! Going up is quick and going down slow, as the Horizontal Pod Autoscaler of Kubernetes does it: a
//! fleet that is too large costs money, one that is too small costs latency.

use std::time::Duration;

use super::scaling::{Scaling, ScalingAction};

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long after a change no more are added: what was added must be seen to work.
    pub up_after: Duration,
    /// How long fewer must have been enough, without a break, before some are taken away.
    pub down_after: Duration,
    /// At most so many more at once, 1 or more.
    pub up_step: u32,
    /// At most so many fewer at once, 1 or more.
    pub down_step: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { up_after: Duration::from_secs(15), down_after: Duration::from_secs(60), up_step: 4, down_step: 1 }
    }
}

/// Follows verdicts at a pace.
#[derive(Debug, Clone)]
pub struct Pacer {
    pace: Pace,
    changed: Option<Duration>,
    enough_since: Option<Duration>,
}

impl Pacer {
    /// One that has changed nothing yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, changed: None, enough_since: None }
    }

    /// How many replicas there should be from now on, of `replicas` that there are.
    pub fn follow(&mut self, verdict: &Scaling, replicas: u32, now: Duration) -> u32 {
        let since = |moment: Option<Duration>| moment.map(|moment| now.saturating_sub(moment));
        let wanted = match verdict.action {
            ScalingAction::NoAction => {
                self.enough_since = None;
                replicas
            }
            ScalingAction::ScaleUp => {
                self.enough_since = None;
                let may = since(self.changed).is_none_or(|passed| passed >= self.pace.up_after);
                if may { verdict.desired_replicas.min(replicas.saturating_add(self.pace.up_step)) } else { replicas }
            }
            ScalingAction::ScaleDown => {
                let enough = *self.enough_since.get_or_insert(now);
                let may = now.saturating_sub(enough) >= self.pace.down_after;
                if may { verdict.desired_replicas.max(replicas.saturating_sub(self.pace.down_step)) } else { replicas }
            }
        };
        if wanted != replicas {
            (self.changed, self.enough_since) = (Some(now), None);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn verdict(action: ScalingAction, desired_replicas: u32) -> Scaling {
        Scaling { action, reason: "a test".into(), desired_replicas }
    }

    fn pacer() -> Pacer {
        Pacer::new(Pace { up_after: S(10), down_after: S(30), up_step: 2, down_step: 1 })
    }

    #[test]
    fn up_goes_at_once_by_a_step_and_then_waits() {
        let (mut pacer, up) = (pacer(), verdict(ScalingAction::ScaleUp, 9));
        assert_eq!(pacer.follow(&up, 1, S(0)), 3);
        assert_eq!(pacer.follow(&up, 3, S(9)), 3);
        assert_eq!(pacer.follow(&up, 3, S(10)), 5);
        assert_eq!(pacer.follow(&verdict(ScalingAction::ScaleUp, 6), 5, S(20)), 6);
    }

    #[test]
    fn down_waits_until_it_was_enough_without_a_break() {
        let (mut pacer, down) = (pacer(), verdict(ScalingAction::ScaleDown, 1));
        assert_eq!(pacer.follow(&down, 4, S(0)), 4);
        assert_eq!(pacer.follow(&down, 4, S(29)), 4);
        assert_eq!(pacer.follow(&verdict(ScalingAction::NoAction, 4), 4, S(29)), 4);
        assert_eq!(pacer.follow(&down, 4, S(30)), 4, "it begins anew");
        assert_eq!(pacer.follow(&down, 4, S(60)), 3);
        assert_eq!(pacer.follow(&down, 3, S(61)), 3, "and so does every step");
        assert_eq!(pacer.follow(&down, 3, S(91)), 2);
        assert_eq!(pacer.follow(&verdict(ScalingAction::ScaleUp, 4), 2, S(92)), 2, "just changed");
    }

    proptest::proptest! {
        #[test]
        fn it_moves_towards_the_verdict_and_never_beyond(
            steps in proptest::collection::vec((0..3u8, 0..20u32, 1..40u64), 1..60),
        ) {
            let (mut pacer, mut replicas, mut now) = (pacer(), 5_u32, 0);
            for (kind, desired, passed) in steps {
                now += passed;
                let verdict = match kind {
                    0 => verdict(ScalingAction::ScaleUp, replicas + 1 + desired),
                    1 => verdict(ScalingAction::ScaleDown, replicas.saturating_sub(1 + desired)),
                    _ => verdict(ScalingAction::NoAction, replicas),
                };
                let next = pacer.follow(&verdict, replicas, S(now));
                let between = next.min(replicas).max(verdict.desired_replicas.min(replicas)) == next.min(replicas)
                    && next <= replicas.max(verdict.desired_replicas);
                proptest::prop_assert!(between && next <= replicas + 2 && next + 1 >= replicas, "{replicas} -> {next}");
                replicas = next;
            }
        }
    }
}
