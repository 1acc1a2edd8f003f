//! Owns the knowledge of how far the deliveries of a partition have come, out of which refill is
//! told what a queue must have lost. Pure: time is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::buffer::Outstanding;
use crate::domain::EventId;
use crate::ports::broker::Traffic;

#[derive(Debug, Default)]
struct Queue {
    subscribed: bool,
    /// The newest event delivered since the last look.
    newest: Option<EventId>,
    /// Packs in this worker's hands.
    outstanding: Arc<Outstanding>,
}

#[derive(Debug)]
struct State {
    normal: Queue,
    bulk: Queue,
    last: Duration,
    /// A queue had to be made since the last look.
    made: bool,
    /// Ends the subscriptions of this time.
    renewal: CancellationToken,
}

/// The deliveries of one partition, from both its queues.
#[derive(Debug)]
pub(super) struct Progress(Mutex<State>);

impl Progress {
    pub(super) fn new(now: Duration) -> Self {
        let renewal = CancellationToken::new();
        Self(Mutex::new(State { normal: Queue::default(), bulk: Queue::default(), last: now, made: false, renewal }))
    }

    // A panic while the lock is held leaves the state whole: every change is one field.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription began; `made`: its queue did not stand before. Gives what ends it.
    pub(super) fn subscribed(&self, traffic: Traffic, made: bool, now: Duration) -> CancellationToken {
        let mut state = self.state();
        state.queue(traffic).subscribed = true;
        state.made |= made;
        state.last = now;
        state.renewal.clone()
    }

    /// Ends both subscriptions, so that they are made anew.
    pub(super) fn renew(&self) {
        std::mem::take(&mut self.state().renewal).cancel();
    }

    /// A subscription ended.
    pub(super) fn ended(&self, traffic: Traffic) {
        self.state().queue(traffic).subscribed = false;
    }

    /// Whether what a queue held is gone with it; told once, when both queues stand again.
    pub(super) fn lost(&self) -> bool {
        let mut state = self.state();
        state.normal.subscribed && state.bulk.subscribed && std::mem::take(&mut state.made)
    }

    /// A pack came; `newest` of its events, when it is genuine.
    pub(super) fn delivered(&self, traffic: Traffic, newest: Option<EventId>, now: Duration) {
        let mut state = self.state();
        let queue = state.queue(traffic);
        queue.newest = newest.or(queue.newest);
        state.last = now;
    }

    /// The packs of a queue that are in hand.
    pub(super) fn outstanding(&self, traffic: Traffic) -> Arc<Outstanding> {
        Arc::clone(&self.state().queue(traffic).outstanding)
    }

    /// Whether both queues are listened to, nothing is in hand, and nothing came for so long.
    pub(super) fn idle(&self, long: Duration, now: Duration) -> bool {
        let state = self.state();
        let quiet = |q: &Queue| q.subscribed && q.outstanding.count() == 0;
        quiet(&state.normal) && quiet(&state.bulk) && now.saturating_sub(state.last) >= long
    }

    /// The event that both queues have come past since the last look; none when either stands still
    /// with packs in hand, since nobody knows then how far it would be.
    pub(super) fn passed(&self) -> Option<EventId> {
        let mut state = self.state();
        let State { normal, bulk, .. } = &mut *state;
        let seen = [normal, bulk].map(|q| (q.newest.take(), q.outstanding.count()));
        if seen.iter().any(|(newest, held)| newest.is_none() && *held > 0) {
            return None;
        }
        seen.iter().filter_map(|(newest, _)| *newest).min()
    }
}

impl State {
    fn queue(&mut self, traffic: Traffic) -> &mut Queue {
        match traffic {
            Traffic::Normal => &mut self.normal,
            Traffic::Bulk => &mut self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId::mint(millis, [0; 10])
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn only_listening_and_empty_handed_silence_is_idle() {
        let p = Progress::new(S(0));
        assert!(!p.idle(S(5), S(100)), "nobody listens");
        p.subscribed(Traffic::Normal, false, S(1));
        assert!(!p.idle(S(5), S(100)), "nobody listens to the bulk");
        p.subscribed(Traffic::Bulk, false, S(2));
        assert!(!p.idle(S(5), S(6)) && p.idle(S(5), S(7)));
        let held = p.outstanding(Traffic::Bulk).hold();
        assert!(!p.idle(S(5), S(100)), "something is in hand");
        drop(held);
        p.delivered(Traffic::Normal, None, S(99));
        assert!(!p.idle(S(5), S(100)), "something came just now");
    }

    #[test]
    fn a_renewal_ends_the_subscriptions_of_its_time_only() {
        let p = Progress::new(S(0));
        let old = p.subscribed(Traffic::Normal, false, S(1));
        p.renew();
        let new = p.subscribed(Traffic::Normal, false, S(2));
        assert!(old.is_cancelled() && !new.is_cancelled());
    }

    #[test]
    fn queues_that_were_made_together_are_told_of_once() {
        let p = Progress::new(S(0));
        p.subscribed(Traffic::Normal, true, S(1));
        assert!(!p.lost(), "the other one is on its way");
        p.subscribed(Traffic::Bulk, true, S(1));
        assert!(p.lost() && !p.lost());
        p.ended(Traffic::Normal);
        p.subscribed(Traffic::Normal, true, S(9));
        assert!(p.lost(), "made anew");
    }

    #[test]
    fn what_the_slower_queue_has_passed_counts() {
        let p = Progress::new(S(0));
        assert_eq!(p.passed(), None);
        p.delivered(Traffic::Normal, Some(id(90)), S(1));
        assert_eq!(p.passed(), Some(id(90)), "the bulk is empty");
        assert_eq!(p.passed(), None, "nothing since");
        p.delivered(Traffic::Normal, Some(id(95)), S(1));
        p.delivered(Traffic::Bulk, Some(id(20)), S(1));
        assert_eq!(p.passed(), Some(id(20)), "the bulk is far behind");
        p.delivered(Traffic::Normal, Some(id(99)), S(2));
        let _held = p.outstanding(Traffic::Bulk).hold();
        assert_eq!(p.passed(), None, "the bulk stands still with packs in hand");
    }
}
