//! Owns the subjects' recent events on Redis. Never keeps an event longer than its window, some
//! slack and the key's time to live.
//!
//! # Decisions
//! Per subject two sorted sets, by time and by id, and running totals over the newest 24 h. One
//! script call a subject and batch records and reads; all calls of a batch travel in one pipeline.
//! The script gives the totals and only the events at the edges (later, earlier, or with a later
//! id than some event of the batch), and the exact figures are worked out here: Lua numbers are
//! doubles, and sums are not. In order, an event costs its batch-mates; an event far out of order
//! costs at most the subject's kept events, once a batch.

use async_trait::async_trait;
use redis::{Pipeline, Script};
use std::collections::HashMap;

use super::link::Link;
use super::{BadAddress, RedisConfig};
use crate::domain::context::{Observation, SLACK_MS, SUBJECT_EVENTS_MAX, Subject24h, WINDOW_MS};
use crate::ports::{ContextError, ContextSource};

const WINDOW: i64 = WINDOW_MS as i64;
/// How long a subject that nobody observes is remembered: its window, the slack, and an hour.
const TTL_MS: u64 = WINDOW_MS + SLACK_MS + 60 * 60 * 1000;

/// The context source on Redis.
pub struct RedisContext {
    link: Link,
    namespace: String,
    script: Script,
}

impl RedisContext {
    /// Connects when it is first used. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address can't be read; a server that is away is no error.
    pub fn new(config: &RedisConfig) -> Result<Self, BadAddress> {
        let script = Script::new(include_str!("context.lua"));
        Ok(Self { link: Link::new(config)?, namespace: config.namespace.clone(), script })
    }

    /// The subject's keys. Neither namespace nor tenant holds a colon, so no two subjects share one.
    fn keys(&self, subject: Subject<'_>) -> [String; 3] {
        ["ctx", "ctxid", "ctxsum"].map(|kind| format!("{}:{kind}:{}:{}", self.namespace, subject.0, subject.1))
    }

    fn call(&self, pipeline: &mut Pipeline, subject: Subject<'_>, events: &[&Observation]) {
        let call = pipeline.cmd("EVALSHA").arg(self.script.get_hash()).arg(3).arg(&self.keys(subject));
        call.arg(WINDOW_MS).arg(SLACK_MS).arg(SUBJECT_EVENTS_MAX).arg(TTL_MS);
        for event in events {
            call.arg(event.event.0.simple().to_string()).arg(event.event.millis());
            call.arg(event.at.timestamp_millis()).arg(event.amount);
        }
    }
}

/// Tenant and subject.
type Subject<'a> = (&'a str, &'a str);

/// What the script gives: the figures as it stores them, who was kept, and the edges.
type Answer = (String, Vec<bool>, Vec<String>, Vec<String>, Vec<String>);

#[async_trait]
impl ContextSource for RedisContext {
    async fn observe(&self, batch: &[Observation]) -> Result<Vec<Subject24h>, ContextError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut places: HashMap<Subject<'_>, Vec<usize>> = HashMap::new();
        for (at, event) in batch.iter().enumerate() {
            places.entry((event.tenant.as_str(), event.subject.as_str())).or_default().push(at);
        }
        let mut pipeline = Pipeline::with_capacity(places.len());
        let groups: Vec<Vec<usize>> = places
            .into_iter()
            .map(|(subject, places)| {
                let events: Vec<&Observation> = places.iter().map(|at| &batch[*at]).collect();
                self.call(&mut pipeline, subject, &events);
                places
            })
            .collect();
        let away = |error: redis::RedisError| ContextError(error.to_string());
        let answers: Vec<Answer> = self.link.scripts(&self.script, &pipeline).await.map_err(away)?;
        let mut figures = vec![Subject24h::default(); batch.len()];
        for (places, answer) in groups.iter().zip(answers) {
            let history = History::read(answer)?;
            for (turn, at) in places.iter().enumerate() {
                figures[*at] = history.figures(&batch[*at], turn);
            }
        }
        Ok(figures)
    }
}

/// A kept event.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u128,
    amount: i64,
    at: i64,
}

/// What the script told of one subject.
struct History {
    count: i64,
    sum: i128,
    newest: i64,
    dropped_to: Option<i64>,
    /// By place in the script call; empty when all of them were.
    kept: Vec<bool>,
    /// Around the window's start, around its end: by time.
    early: Vec<Entry>,
    late: Vec<Entry>,
    /// By id.
    later_ids: Vec<Entry>,
}

impl History {
    fn read(answer: Answer) -> Result<Self, ContextError> {
        let (figures, kept, early, late, later_ids) = answer;
        let garbled = || ContextError("a subject's figures can't be read".to_owned());
        let fields: Vec<&str> = figures.split(' ').collect();
        let number = |field: usize| fields.get(field).and_then(|text| text.parse::<i64>().ok());
        let entries = |members: Vec<String>| members.iter().map(|m| entry(m)).collect::<Option<Vec<_>>>();
        let (high, low) = (number(2).ok_or_else(garbled)?, number(3).ok_or_else(garbled)?);
        Ok(Self {
            newest: number(0).ok_or_else(garbled)?,
            count: number(1).ok_or_else(garbled)?,
            sum: i128::from(high) * 1_000_000_000 + i128::from(low),
            dropped_to: number(8),
            kept,
            early: entries(early).ok_or_else(garbled)?,
            late: entries(late).ok_or_else(garbled)?,
            later_ids: entries(later_ids).ok_or_else(garbled)?,
        })
    }

    fn figures(&self, event: &Observation, turn: usize) -> Subject24h {
        let at = event.at.timestamp_millis();
        let start = at - WINDOW;
        let (mut count, mut sum) = (self.count, self.sum);
        let mut add = |entry: &Entry, sign: i64| {
            count += sign;
            sum += i128::from(sign) * i128::from(entry.amount);
        };
        let oldest = self.newest - WINDOW;
        between(&self.early, start, oldest).iter().for_each(|e| add(e, 1));
        between(&self.early, oldest, start).iter().for_each(|e| add(e, -1));
        between(&self.late, self.newest, at).iter().for_each(|e| add(e, 1));
        between(&self.late, at, self.newest).iter().for_each(|e| add(e, -1));
        let id = event.event.0.as_u128();
        let later = &self.later_ids[self.later_ids.partition_point(|e| e.id <= id)..];
        later.iter().filter(|e| e.at > start && e.at <= at).for_each(|e| add(e, -1));
        if !self.kept.get(turn).copied().unwrap_or(true) {
            add(&Entry { id, amount: event.amount, at }, 1);
        }
        Subject24h {
            count: u64::try_from(count).unwrap_or(0),
            amount_sum: i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }),
            truncated: self.dropped_to.is_some_and(|dropped| dropped > start),
        }
    }
}

/// The entries with a time in `(after, to]`, of a list by time.
fn between(entries: &[Entry], after: i64, to: i64) -> &[Entry] {
    if after >= to {
        return &[];
    }
    &entries[entries.partition_point(|e| e.at <= after)..entries.partition_point(|e| e.at <= to)]
}

/// Reads `id:amount:time`.
fn entry(member: &str) -> Option<Entry> {
    let mut parts = member.split(':');
    let id = u128::from_str_radix(parts.next()?, 16).ok()?;
    let amount = parts.next()?.parse().ok()?;
    let at = parts.next()?.parse().ok()?;
    Some(Entry { id, amount, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_reads_back() {
        let read = entry("0000000000000000000000000000002a:-5:17").expect("a member");
        assert_eq!((read.id, read.amount, read.at), (42, -5, 17));
        assert!(entry("2a:x:1").is_none() && entry("2a:1").is_none());
    }

    #[test]
    fn spans_are_open_at_the_start_and_closed_at_the_end() {
        let entries: Vec<Entry> = (1..=4).map(|at| Entry { id: 0, amount: 0, at }).collect();
        assert_eq!(between(&entries, 1, 3).iter().map(|e| e.at).collect::<Vec<_>>(), [2, 3]);
        assert!(between(&entries, 3, 1).is_empty());
    }
}
