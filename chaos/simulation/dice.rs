//! Owns chance: seeded numbers, and how often each fault happens in a run. Never asks the machine.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riskfleet::domain::partition::stable_hash;
use riskfleet::ports::Entropy;

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every platform and in every version.
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream of numbers of its own for each purpose, so that one more question in one place does
    /// not change the answers in all others.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ stable_hash(purpose.as_bytes()));
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `[0, 1)`.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// From `from..=to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// One of `0..n`.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        self.between(0, n as u64 - 1) as usize
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }
}

/// A process's randomness.
pub(crate) struct SimEntropy(Mutex<Rng>);

impl SimEntropy {
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Mutex::new(rng))
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entropy for SimEntropy {
    fn bits(&self) -> u128 {
        let mut rng = self.rng();
        u128::from(rng.next()) << 64 | u128::from(rng.next())
    }
}

/// How often a call of one port goes wrong.
pub(crate) struct PortRates {
    /// It fails and nothing was done.
    pub(crate) before: f64,
    /// It is done, and the answer is lost.
    pub(crate) after: f64,
    /// It takes its time, up to many seconds.
    pub(crate) slow: f64,
}

/// How often a publication goes wrong.
pub(crate) struct PackRates {
    /// Neither stored nor confirmed.
    pub(crate) lost: f64,
    /// Stored; the confirm is lost.
    pub(crate) unconfirmed: f64,
    /// Confirmed and not stored.
    pub(crate) swallowed: f64,
    /// Refused, in so many words.
    pub(crate) refused: f64,
    /// The broker stops confirming for a while.
    pub(crate) blocked: f64,
    /// Stored twice.
    pub(crate) twice: f64,
    /// Confirmed now, in the queue later: behind others.
    pub(crate) late: f64,
}

/// How often a delivery goes wrong.
pub(crate) struct DeliveryRates {
    /// The subscription ends instead.
    pub(crate) ended: f64,
    /// It comes late, and everything behind it too.
    pub(crate) late: f64,
    /// It claims to have come before.
    pub(crate) flagged: f64,
    /// Its seal is missing, or its content is not what was sealed.
    pub(crate) forged: f64,
    /// Its acknowledgement is sent and never arrives.
    pub(crate) ack_lost: f64,
    /// Its acknowledgement fails.
    pub(crate) ack_failed: f64,
}

/// How often each fault happens in one run.
pub(crate) struct Rates {
    pub(crate) store: PortRates,
    pub(crate) broker: PortRates,
    pub(crate) leases: PortRates,
    pub(crate) context: PortRates,
    pub(crate) packs: PackRates,
    pub(crate) deliveries: DeliveryRates,
    /// A process dies in the middle of a call: where it hurts.
    pub(crate) killed: f64,
    /// A process is paused in the middle of a call.
    pub(crate) frozen: f64,
    /// The mean wait between two disasters of whole processes and servers; none in a calm run.
    pub(crate) disaster_every: Option<Duration>,
}

impl Rates {
    /// Nothing goes wrong.
    pub(crate) fn none() -> Self {
        Self::of_level(&mut Rng::new(0, "none"), 0.0)
    }

    /// Some runs are calm, some are hell, and most have no fault at all of about half of the kinds,
    /// so that what one kind hides is seen where it is missing.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let level = match rng.between(0, 9) {
            0 => 0.0,
            1..=3 => 0.2,
            4..=8 => 1.0,
            _ => 3.0,
        };
        Self::of_level(rng, level)
    }

    fn of_level(rng: &mut Rng, level: f64) -> Self {
        let mut rate = |most: f64| {
            let (drawn, share) = (rng.chance(0.5), rng.fraction());
            if drawn { (share * most * level).min(0.5) } else { 0.0 }
        };
        let mut port = || PortRates { before: rate(0.08), after: rate(0.08), slow: rate(0.05) };
        let (store, broker, leases, context) = (port(), port(), port(), port());
        let packs = PackRates {
            lost: rate(0.1),
            unconfirmed: rate(0.1),
            swallowed: rate(0.1),
            refused: rate(0.05),
            blocked: rate(0.03),
            twice: rate(0.2),
            late: rate(0.2),
        };
        let deliveries = DeliveryRates {
            ended: rate(0.05),
            late: rate(0.1),
            flagged: rate(0.2),
            forged: rate(0.1),
            ack_lost: rate(0.1),
            ack_failed: rate(0.1),
        };
        let (killed, frozen) = (rate(0.004), rate(0.008));
        let often = Duration::from_millis(rng.between(2_000, 20_000));
        let disaster_every = (level > 0.0 && rng.chance(0.8)).then_some(often);
        Self { store, broker, leases, context, packs, deliveries, killed, frozen, disaster_every }
    }
}
