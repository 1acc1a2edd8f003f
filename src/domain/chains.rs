//! Owns the verification of whole chains, record by record in the order in which they stand: what
//! is wrong, where, and by which name. Keeps one small state a chain; never reads anything itself.
//!
//! # Decisions
//! Each record is judged by itself first ([`judge`]), which costs the hashing and needs no order,
//! so that many threads can do it; [`Chains`] then only compares numbers and hashes. One deed is to
//! give one finding: a gap is called `removed` only when the chain has ended and nothing else
//! explains it, and a record that two others claim is called `inserted` once.
//!
//! Whoever can write the database can also write a chain anew from some record on, with all its
//! hashes: no chain shows that by itself. [`Claims`] do, the ends that signed texts have noted.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

use super::audit::{ChainHead, Fault, Hash, Stream, link};
use super::checkpoint::{Manifest, NotedHead};
use super::ids::TenantId;

mod claims;

pub use claims::{Claimant, Claims};

/// Findings that are kept; all are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// Gaps that a chain may have before it has ended; with one more the oldest counts as removed.
const GAPS_MAX: usize = 64;

/// Places explained by another finding that are remembered.
const EXPLAINED_MAX: usize = 10_000;

/// One of a tenant's chains.
pub type ChainId = (TenantId, Stream);

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Whose chain.
    pub tenant: String,
    /// Which of its chains, or `checkpoints`.
    pub stream: String,
    /// Which record of it, or which checkpoint.
    pub seq: i64,
    /// The kind of fault, then a colon and the particulars.
    pub why: String,
}

impl Finding {
    /// About a record.
    pub fn of((tenant, stream): &ChainId, seq: i64, why: impl Into<String>) -> Self {
        Self { tenant: tenant.to_string(), stream: stream.to_string(), seq, why: why.into() }
    }

    /// About a checkpoint, or a signed text beside the chains (number 0).
    pub fn of_checkpoint(number: i64, why: impl Into<String>) -> Self {
        let tenant = TenantId::platform().to_string();
        Self { tenant, stream: "checkpoints".into(), seq: number, why: why.into() }
    }
}

/// Findings, the first [`FINDINGS_MAX`] of them kept.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The first ones.
    pub kept: Vec<Finding>,
    /// How many there were.
    pub total: u64,
}

impl Findings {
    /// Adds one; the same again counts once.
    pub fn add(&mut self, finding: Finding) {
        if self.kept.contains(&finding) {
            return;
        }
        self.total += 1;
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding);
        }
    }

    /// Adds others.
    pub fn append(&mut self, others: Self) {
        let beyond = others.total - others.kept.len() as u64;
        others.kept.into_iter().for_each(|f| self.add(f));
        self.total += beyond;
    }
}

/// A record, judged by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its place.
    pub seq: i64,
    /// Hash of the record before.
    pub prev: Hash,
    /// Its hash.
    pub hash: Hash,
    /// What is wrong with it by itself.
    pub fault: Option<Fault>,
}

#[derive(Deserialize)]
struct Place {
    tenant_id: String,
    stream: String,
    seq: i64,
}

/// What is wrong with a record by itself: its body against its hash, then against its place.
pub fn judge((tenant, stream, seq): (&str, &str, i64), prev: &Hash, hash: &Hash, body: &str) -> Option<Fault> {
    if link(prev, body) != *hash {
        return Some(Fault::Changed);
    }
    if begins_with_place(body, tenant, stream, seq) {
        return None;
    }
    match serde_json::from_str::<Place>(body) {
        Err(e) => Some(Fault::Unreadable(e.to_string())),
        Ok(said) if (said.tenant_id.as_str(), said.stream.as_str(), said.seq) == (tenant, stream, seq) => None,
        Ok(said) => Some(Fault::Relabelled { tenant: said.tenant_id, stream: said.stream, seq: said.seq }),
    }
}

/// Whether the text begins as one of this place is written. Tenants hold no character that JSON
/// would escape.
fn begins_with_place(body: &str, tenant: &str, stream: &str, seq: i64) -> bool {
    let rest = body.strip_prefix("{\"tenant_id\":\"").and_then(|rest| rest.strip_prefix(tenant));
    let rest = rest.and_then(|rest| rest.strip_prefix("\",\"stream\":\"")).and_then(|rest| rest.strip_prefix(stream));
    let Some(rest) = rest.and_then(|rest| rest.strip_prefix("\",\"seq\":")) else { return false };
    // 20 bytes hold every i64.
    let Some(end) = rest.bytes().take(20).position(|c| c == b',') else { return false };
    rest[..end].parse() == Ok(seq)
}

/// What the records said, once all were taken.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Records taken.
    pub records: u64,
    /// Chains seen.
    pub chains: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// The verification of all chains of a store or an export.
#[derive(Debug, Default)]
pub struct Chains {
    chains: HashMap<ChainId, Chain>,
    anchors: HashMap<ChainId, Vec<ChainHead>>,
    claims: Claims,
    /// Places without a record, where another finding says why.
    explained: HashSet<(ChainId, i64)>,
    findings: Findings,
    records: u64,
    last: Option<ChainId>,
}

impl Chains {
    /// Chains that are to agree with `claims`, and may begin at one of the anchors.
    pub fn new(claims: Claims, anchors: Vec<NotedHead>) -> Self {
        let mut chains = Self { claims, ..Self::default() };
        for a in anchors {
            let head = ChainHead { seq: a.seq, hash: a.hash };
            chains.anchors.entry((a.tenant_id, a.stream)).or_default().push(head);
        }
        chains
    }

    /// Takes the next record.
    pub fn take(&mut self, id: &ChainId, record: Judged) {
        self.records += 1;
        if self.last.as_ref() != Some(id) {
            self.last = Some(id.clone());
        }
        let record = match record.fault {
            Some(Fault::Relabelled { tenant, stream, seq }) => {
                self.relabelled(id, record.seq, (tenant, stream, seq));
                return;
            }
            fault => Judged { fault, ..record },
        };
        let refuted = self.claims.against(id, record.seq, &record.hash);
        let chain = match self.chains.get_mut(id) {
            Some(chain) => chain,
            None => {
                let begin = begin(self.anchors.get(id), record.seq);
                self.chains.entry(id.clone()).or_insert_with(|| Chain::new(begin))
            }
        };
        chain.take(id, &record, refuted, &mut self.findings);
    }

    /// Notes text `nth` (from 1) that could not be read: it stands where the last chain goes on.
    pub fn unreadable(&mut self, nth: u64, why: &str) {
        let id = self.last.clone().unwrap_or_else(|| (TenantId::platform(), Stream::Control));
        let seq = self.chains.get(&id).map_or(0, |chain| chain.head.seq) + 1;
        self.explain(id.clone(), seq);
        self.findings.add(Finding::of(&id, seq, format!("changed: line {nth} can't be read: {why}")));
    }

    /// Notes what is wrong with what a record speaks of.
    pub fn note(&mut self, finding: Finding) {
        self.findings.add(finding);
    }

    fn relabelled(&mut self, id: &ChainId, seq: i64, (tenant, stream, said): (String, String, i64)) {
        let same = (tenant.as_str(), stream.as_str()) == (id.0.as_str(), id.1.as_str());
        let why = if same {
            format!("reordered: the body says seq {said}")
        } else {
            format!("relabelled to another tenant or stream: the body says {tenant}/{stream}/{said}")
        };
        self.findings.add(Finding::of(id, seq, why));
        if let (Ok(tenant), Some(stream)) = (TenantId::parse(&tenant), Stream::parse(&stream)) {
            self.explain((tenant, stream), said);
        }
        if same {
            self.explain(id.clone(), seq);
        }
    }

    fn explain(&mut self, id: ChainId, seq: i64) {
        if self.explained.len() < EXPLAINED_MAX {
            self.explained.insert((id, seq));
        }
    }

    /// Ends every chain: what is missing, what a signed text says of its end, and what the manifest
    /// of an export says of the whole.
    pub fn finish(mut self, manifest: Option<&Manifest>) -> Verdict {
        let mut chains = std::mem::take(&mut self.chains);
        for (id, chain) in &mut chains {
            chain.end(id, &self.explained, &mut self.findings);
        }
        let ends = |id: &ChainId| chains.get(id).map_or(0, |c| c.head.seq);
        for (id, seq, by) in self.claims.beyond(ends) {
            let end = ends(&id);
            if !self.explained.contains(&(id.clone(), seq)) || seq > end + 1 {
                let why = format!("truncated tail: the chain ends at {end}, {by} says {seq}");
                self.findings.add(Finding::of(&id, end + 1, why));
            }
        }
        if let Some(manifest) = manifest {
            self.compare(&chains, manifest);
        }
        self.findings.kept.sort();
        let (records, findings) = (self.records, self.findings);
        Verdict { records, chains: chains.len() as u64, findings }
    }

    /// The ends were claims already; what is left is what nobody claims.
    fn compare(&mut self, chains: &HashMap<ChainId, Chain>, manifest: &Manifest) {
        let known: HashMap<(&TenantId, Stream), i64> =
            manifest.chains.iter().map(|h| ((&h.tenant_id, h.stream), h.seq)).collect();
        for (id, chain) in chains {
            let said = known.get(&(&id.0, id.1)).copied().unwrap_or(0);
            if chain.head.seq > said {
                let why = format!("inserted: the manifest says that the chain ends at {said}");
                self.findings.add(Finding::of(id, said + 1, why));
            }
        }
        if self.findings.total == 0 && manifest.records != self.records {
            let why = format!("changed: the manifest says {} records, there are {}", manifest.records, self.records);
            self.findings.add(Finding::of_checkpoint(0, why));
        }
    }
}

/// Where a chain begins whose first record is `first`.
fn begin(anchors: Option<&Vec<ChainHead>>, first: i64) -> ChainHead {
    let below = anchors.into_iter().flatten().filter(|a| a.seq < first);
    below.max_by_key(|a| a.seq).copied().unwrap_or(ChainHead::EMPTY)
}

/// Records that have not come yet, though a later one has.
#[derive(Debug)]
struct Gap {
    from: i64,
    to: i64,
    /// The hash that the first of them hangs on.
    before: Hash,
    /// The hash that the last of them must have.
    after: Hash,
    /// The record that came too early.
    leaper: i64,
    told: bool,
}

#[derive(Debug)]
struct Chain {
    /// The record with the highest seq.
    head: ChainHead,
    /// The hash of another record with the head's seq.
    twin: Option<Hash>,
    begin: i64,
    /// The seq that came last.
    latest: i64,
    gaps: Vec<Gap>,
    /// What is wrong with the head, as long as the next record may show it to be something else.
    pending: Option<Finding>,
    /// A signed text has another hash: said once a chain.
    rewritten: bool,
}

impl Chain {
    fn new(begin: ChainHead) -> Self {
        Self {
            head: begin,
            twin: None,
            begin: begin.seq,
            latest: begin.seq,
            gaps: Vec::new(),
            pending: None,
            rewritten: false,
        }
    }

    fn take(&mut self, id: &ChainId, record: &Judged, refuted: Option<Claimant>, findings: &mut Findings) {
        let seq = record.seq;
        let mut wrong = record.fault.as_ref().map(|fault| Finding::of(id, seq, fault.to_string()));
        if let Some(by) = refuted
            && wrong.is_none()
            && !self.rewritten
        {
            self.rewritten = true;
            wrong = Some(Finding::of(id, seq, format!("changed: {by} has another hash, the chain was written anew")));
        }
        let next = self.head.seq + 1;
        if seq == next {
            self.follow(id, record, wrong, findings);
        } else if seq > next {
            self.leap(id, record, wrong, findings);
        } else {
            self.late(id, record, wrong, findings);
        }
        self.latest = seq;
    }

    fn follow(&mut self, id: &ChainId, record: &Judged, mut wrong: Option<Finding>, findings: &mut Findings) {
        let hangs = record.prev == self.head.hash || self.twin == Some(record.prev);
        if !hangs && wrong.is_none() {
            if self.head.seq == self.begin {
                let why = "changed: its prev_hash is not what the chain begins with";
                wrong = Some(Finding::of(id, record.seq, why));
            } else if self.pending.is_none() {
                let why = "changed: the next record hangs on another hash";
                wrong = Some(Finding::of(id, self.head.seq, why));
            }
        }
        self.advance(record, wrong, findings);
    }

    fn advance(&mut self, record: &Judged, wrong: Option<Finding>, findings: &mut Findings) {
        if let Some(finding) = std::mem::replace(&mut self.pending, wrong) {
            findings.add(finding);
        }
        self.head = ChainHead { seq: record.seq, hash: record.hash };
        self.twin = None;
    }

    fn leap(&mut self, id: &ChainId, record: &Judged, wrong: Option<Finding>, findings: &mut Findings) {
        if self.gaps.len() >= GAPS_MAX {
            let oldest = self.gaps.remove(0);
            findings.add(removed(id, oldest.from, oldest.to));
        }
        self.gaps.push(Gap {
            from: self.head.seq + 1,
            to: record.seq - 1,
            before: self.head.hash,
            after: record.prev,
            leaper: record.seq,
            told: false,
        });
        self.advance(record, wrong, findings);
    }

    fn late(&mut self, id: &ChainId, record: &Judged, wrong: Option<Finding>, findings: &mut Findings) {
        let seq = record.seq;
        if let Some(at) = self.gaps.iter().position(|gap| (gap.from..=gap.to).contains(&seq)) {
            self.fill(id, record, wrong, at, findings);
            return;
        }
        findings.add(Finding::of(id, seq, "inserted: there is a second record with this seq"));
        if seq != self.head.seq {
            return;
        }
        // Which of the two is the foreign one? The one that is wrong by itself; else the next
        // record says it by hanging on the other.
        if self.pending.take().is_some() && wrong.is_none() {
            self.head.hash = record.hash;
        } else if wrong.is_none() {
            self.twin = Some(record.hash);
        }
    }

    fn fill(&mut self, id: &ChainId, record: &Judged, wrong: Option<Finding>, at: usize, findings: &mut Findings) {
        let seq = record.seq;
        let gap = self.gaps.remove(at);
        if let Some(finding) = wrong {
            findings.add(finding);
        } else if seq == gap.from && record.prev != gap.before || seq == gap.to && record.hash != gap.after {
            findings.add(Finding::of(id, seq, "changed: it does not hang between its neighbours"));
        }
        let mut told = gap.told;
        if !(told && seq == self.latest + 1) {
            // One that came too early makes all that follow late: it is the one to name.
            let early = !told && self.latest == gap.leaper && gap.from < gap.to;
            let named = if early { gap.leaper } else { seq };
            let behind = if early { "before" } else { "behind" };
            let other = if early { seq } else { self.latest };
            findings.add(Finding::of(id, named, format!("reordered: it stands {behind} seq {other}")));
            told = true;
        }
        if gap.from < seq {
            let (before, leaper) = (gap.before, gap.leaper);
            self.gaps.push(Gap { from: gap.from, to: seq - 1, before, after: record.prev, leaper, told });
        }
        if seq < gap.to {
            self.gaps.push(Gap { from: seq + 1, before: record.hash, told, ..gap });
        }
    }

    fn end(&mut self, id: &ChainId, explained: &HashSet<(ChainId, i64)>, findings: &mut Findings) {
        if let Some(finding) = self.pending.take() {
            findings.add(finding);
        }
        self.gaps.sort_by_key(|gap| gap.from);
        for gap in self.gaps.drain(..) {
            // What is explained falls out of the gap; only few places are.
            let mut places: Vec<i64> = explained
                .iter()
                .filter(|(of, seq)| of == id && (gap.from..=gap.to).contains(seq))
                .map(|e| e.1)
                .collect();
            places.sort_unstable();
            let mut from = gap.from;
            for place in places.into_iter().chain([gap.to + 1]) {
                if from < place {
                    findings.add(removed(id, from, place - 1));
                }
                from = place + 1;
            }
        }
    }
}

fn removed(id: &ChainId, from: i64, to: i64) -> Finding {
    let why = if from == to {
        "removed: the record is missing".into()
    } else {
        format!("removed: {from} to {to} are missing")
    };
    Finding::of(id, from, why)
}

#[cfg(test)]
mod tests;
