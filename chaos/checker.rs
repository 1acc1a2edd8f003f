//! Owns the verdict on a run: holds what the store says against what the harness has seen, in the
//! words of RabbitMQ's Jepsen tests (attempted, acknowledged, lost, duplicated, recovered,
//! unexpected). Pure; `rows` reads the store.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::history::{Answer, Attempt, Heard, History};

/// How many examples of one finding are shown.
const SHOWN: usize = 5;

/// An event as stored, with what became of it.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    /// The key of its attempt.
    pub(crate) correlation: String,
    pub(crate) decision: Option<DecisionRow>,
}

/// The disposition of an event.
#[derive(Debug, Clone)]
pub(crate) struct DecisionRow {
    pub(crate) tenant: String,
    /// 3 is a dead letter.
    pub(crate) outcome: i16,
    pub(crate) epoch: i64,
}

/// A record of a chain, as stored.
#[derive(Debug, Clone)]
pub(crate) struct AuditRow {
    pub(crate) tenant: String,
    pub(crate) stream: i16,
    pub(crate) seq: i64,
    pub(crate) prev: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) body: String,
}

/// The verdict.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) attempted: usize,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) recovered: usize,
    pub(crate) unexpected: usize,
    pub(crate) unheard: usize,
    pub(crate) leaked: usize,
    pub(crate) dead: usize,
    /// Everything that must not be, in words; empty when all is well.
    pub(crate) wrong: Vec<String>,
}

impl Verdict {
    fn find(&mut self, what: &str, examples: &[String]) -> usize {
        if !examples.is_empty() {
            let shown = examples.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
            self.wrong.push(format!("{} {what}: {shown}", examples.len()));
        }
        examples.len()
    }

    /// Notes a canary where it does not belong.
    pub(crate) fn leak(&mut self, examples: &[String]) {
        self.leaked += self.find("leaked", examples);
    }

    /// Notes something else that must not be.
    pub(crate) fn fault(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Holds the stored events against the attempts.
    pub(crate) fn events(&mut self, history: &History, rows: &[EventRow]) {
        let by_key = self.by_key(history, rows);
        let (mut lost, mut duplicated) = (Vec::new(), Vec::new());
        for tenant in 0..history.tenants.len() {
            for (n, attempt) in history.attempts_of(tenant).iter().enumerate() {
                let key = history.key(tenant, n);
                let stored = by_key.get(&(tenant, n)).map_or(&[][..], Vec::as_slice);
                self.attempt(&key, attempt, stored, &mut lost, &mut duplicated);
            }
        }
        self.lost += self.find("lost", &lost);
        self.duplicated += self.find("duplicated", &duplicated);
    }

    fn by_key<'r>(&mut self, history: &History, rows: &'r [EventRow]) -> HashMap<(usize, usize), Vec<&'r EventRow>> {
        let mut by_key: HashMap<(usize, usize), Vec<&EventRow>> = HashMap::with_capacity(rows.len());
        let (mut unexpected, mut leaked, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let place = history.read_key(&row.correlation);
            let attempted = place.filter(|(tenant, n)| *n < history.attempted(*tenant));
            match attempted {
                Some(place) if history.tenants[place.0].name == row.tenant => {
                    by_key.entry(place).or_default().push(row);
                }
                Some(_) => leaked.push(format!("{} stands under {}", row.correlation, row.tenant)),
                None => unexpected.push(format!("{} ({})", row.id, row.correlation)),
            }
            match &row.decision {
                Some(decision) if decision.tenant != row.tenant => {
                    leaked.push(format!("the decision of {} stands under {}", row.correlation, decision.tenant));
                }
                Some(decision) => self.dead += usize::from(decision.outcome == 3),
                None => undecided.push(row.correlation.clone()),
            }
        }
        self.unexpected += self.find("unexpected", &unexpected);
        self.leak(&leaked);
        self.find("stored and undecided", &undecided);
        by_key
    }

    fn attempt(
        &mut self,
        key: &str,
        attempt: &Attempt,
        stored: &[&EventRow],
        lost: &mut Vec<String>,
        duplicated: &mut Vec<String>,
    ) {
        self.attempted += 1;
        let decided = stored.iter().filter(|row| row.decision.is_some()).count();
        match attempt.answer {
            Answer::Acknowledged(id) => {
                self.acknowledged += 1;
                if !stored.iter().any(|row| row.id == id && row.decision.is_some()) {
                    lost.push(format!("{key} as {id}"));
                }
            }
            Answer::Unknown => self.recovered += usize::from(decided > 0),
            // Refused and stored all the same: an earlier try of it had got through.
            Answer::Refused => {}
        }
        if stored.len() > 1 || attempt.contradicted {
            duplicated.push(format!("{key} {} times", stored.len().max(2)));
        }
    }

    /// Holds the outcomes heard downstream against the decisions.
    pub(crate) fn outcomes(&mut self, rows: &[EventRow], heard: &HashMap<Uuid, Heard>, strays: &[String]) {
        let decided = |row: &&EventRow| row.decision.as_ref().is_some_and(|d| d.outcome != 3);
        let unheard: Vec<String> = rows
            .iter()
            .filter(decided)
            .filter(|row| !heard.contains_key(&row.id))
            .map(|row| row.correlation.clone())
            .collect();
        self.unheard += self.find("decided and never heard downstream", &unheard);
        self.leak(strays);
        let known: std::collections::HashSet<Uuid> = rows.iter().filter(decided).map(|row| row.id).collect();
        let made_up: Vec<String> = heard.keys().filter(|id| !known.contains(id)).map(Uuid::to_string).collect();
        self.unexpected += self.find("heard downstream and not decided", &made_up);
    }

    /// Says where the roll-up of costs is not what was decided.
    pub(crate) fn costs(&mut self, differing: &[String]) {
        self.find("roll-ups that are not the sum of their decisions", differing);
    }

    /// Holds the chains, given by tenant, stream and seq, against themselves and the decisions.
    pub(crate) fn chains(&mut self, events: &[EventRow], audit: &[AuditRow]) {
        let decisions: HashMap<Uuid, &DecisionRow> =
            events.iter().filter_map(|row| Some((row.id, row.decision.as_ref()?))).collect();
        let mut chains = Chains { decisions, records: HashMap::new(), broken: Vec::new(), back: Vec::new() };
        for chain in audit.chunk_by(|a, b| (&a.tenant, a.stream) == (&b.tenant, b.stream)) {
            chains.chain(chain);
        }
        let Chains { decisions, records, broken, back } = chains;
        self.find("broken chain links", &broken);
        self.find("epochs that go back", &back);
        let missing: Vec<String> =
            decisions.keys().filter(|id| !records.contains_key(id)).map(Uuid::to_string).collect();
        self.find("decisions without an audit record", &missing);
        let many: Vec<String> =
            records.iter().filter(|(_, n)| **n > 1).map(|(id, n)| format!("{id} {n} times")).collect();
        self.duplicated += self.find("decisions with several audit records", &many);
        let made_up: Vec<String> =
            records.keys().filter(|id| !decisions.contains_key(id)).map(Uuid::to_string).collect();
        self.find("audit records of decisions that are not there", &made_up);
    }
}

/// What is gathered over all chains.
struct Chains<'r> {
    decisions: HashMap<Uuid, &'r DecisionRow>,
    records: HashMap<Uuid, usize>,
    broken: Vec<String>,
    back: Vec<String>,
}

impl Chains<'_> {
    fn chain(&mut self, chain: &[AuditRow]) {
        let (mut prev, mut seq, mut epoch) = (vec![0; 32], 0, i64::MIN);
        for row in chain {
            let place = format!("{}/{}/{}", row.tenant, row.stream, row.seq);
            if row.seq != seq + 1 {
                self.broken.push(format!("{place}: expected seq {}", seq + 1));
            }
            if row.prev != prev {
                self.broken.push(format!("{place}: does not hang on the record before"));
            }
            let hash = Sha256::new().chain_update(&row.prev).chain_update(row.body.as_bytes()).finalize();
            if hash[..] != row.hash[..] {
                self.broken.push(format!("{place}: the body does not give the hash"));
            }
            self.body(row, &place, &mut epoch);
            (prev, seq) = (row.hash.clone(), row.seq);
        }
    }

    fn body(&mut self, row: &AuditRow, place: &str, epoch: &mut i64) {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(&row.body) else {
            self.broken.push(format!("{place}: the body is no JSON"));
            return;
        };
        if body["tenant_id"] != row.tenant.as_str() || body["seq"] != row.seq {
            self.broken.push(format!("{place}: the body names another place"));
        }
        let disposes = matches!(body["action"].as_str(), Some("decision_made" | "dead_lettered"));
        let event = body["event_id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (true, Some(event)) = (disposes, event) else { return };
        *self.records.entry(event).or_default() += 1;
        if let Some(decision) = self.decisions.get(&event) {
            if decision.epoch < *epoch {
                self.back.push(format!("{place}: epoch {} after {epoch}", decision.epoch));
            }
            *epoch = decision.epoch.max(*epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn row(n: u128, tenant: &str, key: &str, epoch: Option<i64>) -> EventRow {
        let decision = epoch.map(|epoch| DecisionRow { tenant: tenant.into(), outcome: 0, epoch });
        EventRow { id: id(n), tenant: tenant.into(), correlation: key.into(), decision }
    }

    /// Two tenants; of the first, events 0 and 1 are acknowledged, 2 has no answer.
    fn history() -> History {
        let history = History::new(2);
        history.attempt(0, 3);
        history.answer(0, 0, Answer::Acknowledged(id(10)));
        history.answer(0, 1, Answer::Acknowledged(id(11)));
        history
    }

    fn good() -> Vec<EventRow> {
        vec![row(10, "tenant-0", "tenant-0/0", Some(1)), row(11, "tenant-0", "tenant-0/1", Some(2))]
    }

    fn judged(rows: &[EventRow]) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.events(&history(), rows);
        verdict
    }

    #[test]
    fn a_good_history_is_good_and_an_unknown_one_may_be_recovered() {
        let verdict = judged(&good());
        assert_eq!((verdict.attempted, verdict.acknowledged, verdict.wrong), (3, 2, vec![]));
        let mut rows = good();
        rows.push(row(12, "tenant-0", "tenant-0/2", Some(2)));
        let verdict = judged(&rows);
        assert_eq!((verdict.recovered, verdict.wrong), (1, vec![]));
    }

    #[test]
    fn a_roll_up_that_is_not_the_sum_of_its_decisions_is_wrong() {
        let mut verdict = Verdict::default();
        verdict.costs(&[]);
        assert!(verdict.wrong.is_empty());
        verdict.costs(&["tenant-0 on 2026-11-22: (3,0,9) rolled up, (2,0,6) stored".into()]);
        assert!(verdict.wrong.len() == 1 && verdict.wrong[0].contains("(3,0,9)"), "{:?}", verdict.wrong);
    }

    #[test]
    fn what_is_missing_or_undecided_is_lost() {
        assert_eq!(judged(&good()[..1]).lost, 1);
        let mut rows = good();
        rows[1].decision = None;
        assert_eq!(judged(&rows).lost, 1);
        rows[1] = row(99, "tenant-0", "tenant-0/1", Some(1));
        assert_eq!(judged(&rows).lost, 1, "decided under another id than the answer's");
    }

    #[test]
    fn doubles_strangers_and_strays_are_found() {
        let mut rows = good();
        rows.push(row(20, "tenant-0", "tenant-0/1", Some(2)));
        assert_eq!(judged(&rows).duplicated, 1);
        rows[2] = row(20, "tenant-0", "tenant-0/77", Some(2));
        assert_eq!(judged(&rows).unexpected, 1, "never attempted");
        rows[2] = row(20, "tenant-1", "tenant-0/2", Some(2));
        assert_eq!(judged(&rows).leaked, 1, "under another tenant");
        rows.pop();
        rows[0].decision = Some(DecisionRow { tenant: "tenant-1".into(), outcome: 0, epoch: 1 });
        assert_eq!(judged(&rows).leaked, 1, "its decision under another tenant");
        let history = history();
        history.answer(0, 0, Answer::Acknowledged(id(77)));
        let mut verdict = Verdict::default();
        verdict.events(&history, &good());
        assert_eq!(verdict.duplicated, 1, "two ids for one key");
    }

    #[test]
    fn every_decision_is_heard_and_nothing_else() {
        let heard = |ids: &[u128]| {
            let one = Heard { copies: 1 };
            ids.iter().map(|n| (id(*n), one)).collect::<HashMap<_, _>>()
        };
        let judged = |ids: &[u128]| {
            let mut verdict = Verdict::default();
            verdict.outcomes(&good(), &heard(ids), &[]);
            (verdict.unheard, verdict.unexpected)
        };
        assert_eq!(judged(&[10, 11]), (0, 0));
        assert_eq!(judged(&[10]), (1, 0));
        assert_eq!(judged(&[10, 11, 12]), (0, 1));
    }

    fn chain(events: &[u128]) -> Vec<AuditRow> {
        let mut prev = vec![0; 32];
        let link = |(n, event): (usize, &u128)| {
            let seq = n as i64 + 1;
            let body = serde_json::json!({"tenant_id": "tenant-0", "seq": seq, "action": "decision_made", "event_id": id(*event)}).to_string();
            let hash = Sha256::new().chain_update(&prev).chain_update(body.as_bytes()).finalize().to_vec();
            let prev = std::mem::replace(&mut prev, hash.clone());
            AuditRow { tenant: "tenant-0".into(), stream: 0, seq, prev, hash, body }
        };
        events.iter().enumerate().map(link).collect()
    }

    fn chained(audit: &[AuditRow]) -> Vec<String> {
        let mut verdict = Verdict::default();
        verdict.chains(&good(), audit);
        verdict.wrong
    }

    #[test]
    fn chains_are_whole_and_their_epochs_never_go_back() {
        assert_eq!(chained(&chain(&[10, 11])), Vec::<String>::new());
        assert!(chained(&chain(&[11, 10]))[0].contains("epochs that go back"));
        assert!(chained(&chain(&[10]))[0].contains("without an audit record"));
        assert!(chained(&chain(&[10, 11, 11]))[0].contains("several audit records"));
        assert!(chained(&chain(&[10, 11, 12]))[0].contains("not there"));
        let mut changed = chain(&[10, 11]);
        changed[0].body = changed[0].body.replace("decision_made", "decision_mad3");
        assert!(chained(&changed)[0].contains("does not give the hash"));
        let mut gap = chain(&[10, 11]);
        gap.remove(0);
        assert!(chained(&gap)[0].contains("broken chain links"));
    }
}
