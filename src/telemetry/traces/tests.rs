//! Tests of what is traced, and of what becomes of spans.

use std::sync::Mutex;

use chrono::{DateTime, Utc};

use super::*;

/// A clock whose wall shows the epoch plus what has elapsed, until it is set.
#[derive(Default)]
struct Hand(Mutex<(Duration, Duration)>);

impl Hand {
    fn pass(&self, time: Duration) {
        self.0.lock().expect("held").0 += time;
    }

    fn set_wall(&self, ahead: Duration) {
        self.0.lock().expect("held").1 = ahead;
    }
}

impl Clock for Hand {
    fn now(&self) -> DateTime<Utc> {
        let (elapsed, ahead) = *self.0.lock().expect("held");
        DateTime::UNIX_EPOCH + elapsed + ahead
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().expect("held").0
    }
}

/// The same bits in every run (SplitMix64, Steele and others 2014).
#[derive(Default)]
struct Counting(Mutex<u128>);

impl Entropy for Counting {
    fn bits(&self) -> u128 {
        let mut next = self.0.lock().expect("held");
        *next += 0x9e37_79b9_7f4a_7c15;
        let mut z = *next as u64;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    }
}

fn traces(percent: u32, events_per_s: u32) -> (Traces, Recorded, Arc<Hand>) {
    let clock = Arc::new(Hand::default());
    let rules = Rules { percent, events_per_s, systems: Systems::SERVERS };
    let (traces, recorded) = Traces::by(rules, clock.clone(), Arc::new(Counting::default()));
    (traces, recorded, clock)
}

fn parent(sampled: bool) -> TraceContext {
    let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{:02x}", u8::from(sampled));
    TraceContext::parse(&text).expect("legal")
}

fn span(name: &'static str, context: TraceContext, times: (Duration, Duration)) -> Span {
    Span::new(name, Kind::Internal, context, times)
}

#[test]
fn off_is_nothing_and_costs_nothing() {
    let off = Traces::off();
    assert!(!off.on() && off.begin(Some(parent(true))).is_none());
    assert_eq!(off.moment(), Duration::ZERO, "not even a look at the clock");
    assert_eq!(off.below(parent(true)), parent(true));
    off.record(span("x", parent(true), Default::default()));
    assert_eq!(size_of::<Traces>(), size_of::<usize>());
}

#[test]
fn the_producer_decides_where_it_has_said_something() {
    let (all, _recorded, _) = traces(100, 1_000);
    let (none, _recorded, _) = traces(0, 1_000);
    for traces in [&all, &none] {
        let root = traces.begin(Some(parent(true))).expect("asked for");
        assert_eq!((root.context.trace, root.parent), (parent(true).trace, Some(parent(true).span)));
        assert!(root.context.span != parent(true).span && root.context.sampled);
        assert!(traces.begin(Some(parent(false))).is_none(), "asked not to");
    }
    let (first, second) = (all.begin(None).expect("chosen"), all.begin(None).expect("chosen"));
    assert!(first.context.trace != second.context.trace && first.parent.is_none());
    assert!(none.begin(None).is_none());
}

#[test]
fn of_the_others_so_many_in_a_hundred_are_traced() {
    let (traces, _recorded, clock) = traces(7, 10_000);
    let begun = (0..10_000).filter(|_| {
        clock.pass(Duration::from_millis(1));
        traces.begin(None).is_some()
    });
    let begun = begun.count();
    assert!((600..=800).contains(&begun), "{begun} of 10,000");
}

#[test]
fn who_marks_everything_is_bounded_and_blinds_nobody() {
    let (traces, _recorded, clock) = traces(100, 100);
    let asked = (0..10_000).filter(|_| traces.begin(Some(parent(true))).is_some()).count();
    assert_eq!(asked, 50);
    let root = traces.begin(None).expect("the other half is the process's own");
    assert_eq!((0..1_000).filter(|_| traces.one_more(&root)).count(), 49);
    clock.pass(Duration::from_secs(1));
    assert!(traces.begin(Some(parent(true))).is_some(), "as many again in the next second");
}

#[test]
fn a_full_queue_drops_and_never_waits() {
    let (traces, mut recorded, _) = traces(100, 1);
    for _ in 0..QUEUE_MAX + 100 {
        traces.record(span("x", parent(true), Default::default()));
    }
    assert_eq!(recorded.taken().len(), QUEUE_MAX);
    traces.record(span("y", parent(true), Default::default()));
    assert_eq!(recorded.taken().len(), 1, "there is room again");
}

#[test]
fn spans_stand_where_the_wall_clock_stood() {
    let (traces, mut recorded, clock) = traces(100, 1);
    clock.pass(Duration::from_secs(3));
    let began = traces.moment();
    clock.pass(Duration::from_millis(250));
    traces.record(span("x", parent(true), (began, traces.moment())).with(keys::BATCH, 3_usize));
    clock.set_wall(Duration::from_secs(100));
    traces.0.as_ref().expect("on").follow_wall_clock();
    traces.record(span("y", parent(true), (began, Duration::ZERO)).failed(Some("broken")));
    let resource = span::resource(Role::Worker, "ns", uuid::Uuid::nil());
    let mut request = span::request(&resource, recorded.taken());
    let mut of_process = request.resource_spans.remove(0);
    let [x, y] = &of_process.scope_spans.remove(0).spans[..] else { panic!("two spans") };
    assert_eq!((x.start_time_unix_nano, x.end_time_unix_nano), (3_000_000_000, 3_250_000_000));
    assert_eq!((y.start_time_unix_nano, y.end_time_unix_nano), (103_000_000_000, 103_000_000_000), "never backwards");
    assert_eq!(x.trace_id, parent(true).trace.to_bytes());
    assert!(x.status.is_none() && y.status.as_ref().is_some_and(|s| s.code == 2 && s.message == "broken"));
    assert_eq!((x.attributes[0].key.as_str(), y.attributes[0].key.as_str()), (keys::BATCH, keys::ERROR));
}
