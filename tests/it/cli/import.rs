//! Tests: the NDJSON import: whole, cut, refused, killed and taken up again.

use async_trait::async_trait;
use riskfleet::domain::{EventBody, EventId, Status};
use riskfleet::ingest::file::{ImportError, ImportOptions, Input, Summary, import};
use riskfleet::ports::intake::{Candidate, Intake, IntakeError, Receipt, Taken};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// A door that takes by key, as the store does, and fails or hangs when told to.
#[derive(Default)]
struct Door {
    inner: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    stored: HashMap<(String, String), (EventBody, EventId)>,
    failures: VecDeque<IntakeError>,
    /// After so many calls it never answers again.
    hang_after: Option<usize>,
    calls: usize,
}

impl Door {
    fn failing(failures: Vec<IntakeError>) -> Self {
        let door = Self::default();
        door.inner.lock().expect("whole").failures = failures.into();
        door
    }

    fn hang_after(&self, calls: Option<usize>) {
        let mut inside = self.inner.lock().expect("whole");
        (inside.hang_after, inside.calls) = (calls, 0);
    }

    fn stored(&self) -> usize {
        self.inner.lock().expect("whole").stored.len()
    }

    fn keys(&self) -> Vec<(String, String)> {
        let mut keys: Vec<_> = self.inner.lock().expect("whole").stored.keys().cloned().collect();
        keys.sort();
        keys
    }
}

impl Inside {
    fn take(&mut self, candidate: Candidate) -> Taken {
        let key = (candidate.body.tenant_id.to_string(), candidate.key.to_string());
        let fresh =
            EventId::mint(super::shelf::T0, (self.stored.len() as u128).to_be_bytes()[6..].try_into().expect("ten"));
        let receipt = |id: EventId| Receipt {
            event_id: id,
            tenant_id: candidate.body.tenant_id.clone(),
            status: Status::Received,
            created_at: id.created_at(),
            correlation_id: candidate.correlation_id.clone(),
        };
        match self.stored.get(&key) {
            Some((body, id)) if *body == candidate.body => Taken::Replayed(receipt(*id)),
            Some((_, id)) => Taken::Conflict(*id),
            None => {
                let receipt = receipt(fresh);
                self.stored.insert(key, (candidate.body, fresh));
                Taken::Accepted(receipt)
            }
        }
    }
}

#[async_trait]
impl Intake for Door {
    async fn submit(&self, candidates: Vec<Candidate>) -> Result<Vec<Taken>, IntakeError> {
        let hangs = {
            let mut inside = self.inner.lock().expect("whole");
            inside.calls += 1;
            inside.hang_after.is_some_and(|n| inside.calls > n)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut inside = self.inner.lock().expect("whole");
        match inside.failures.pop_front() {
            Some(failure) => Err(failure),
            None => Ok(candidates.into_iter().map(|c| inside.take(c)).collect()),
        }
    }

    async fn decision(&self, _: EventId, _: Duration) -> Option<serde_json::Value> {
        None
    }
}

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("riskfleet-{}", crate::harness::namespace()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("read")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn line(n: usize) -> String {
    format!("{{\"kind\":\"risk\",\"version\":\"1\",\"tenant_id\":\"acme\",\"amount\":{n}}}\n")
}

fn lines(count: usize) -> String {
    (1..=count).map(line).collect()
}

async fn run(door: &Door, path: &Path) -> Result<Summary, ImportError> {
    import(door, ImportOptions::new(Input::File(path.into()))).await
}

fn counts(s: &Summary) -> (u64, u64, u64, u64, u64) {
    (s.read, s.accepted, s.replayed, s.conflicts, s.refused)
}

fn said(s: &Summary) -> String {
    let mut out = Vec::new();
    s.print(&mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[tokio::test]
async fn a_file_is_taken_once_however_often_it_is_imported() {
    let (folder, door) = (Folder::new(), Door::default());
    let path = folder.file("events.ndjson", lines(3_210));
    let first = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&first), first.is_whole()), ((3_210, 3_210, 0, 0, 0), true));
    assert_eq!(said(&first), "read 3210: 3210 accepted, 0 replayed, 0 in conflict, 0 refused\n");
    let again = run(&door, &path).await.expect("nothing left");
    assert_eq!((counts(&again), again.resumed_behind), ((3_210, 3_210, 0, 0, 0), 3_210));
    std::fs::remove_file(folder.0.join("events.ndjson.progress")).expect("there");
    let anew = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&anew), door.stored()), ((3_210, 0, 3_210, 0, 0), 3_210));
    assert!(!folder.0.join("events.ndjson.rejected.ndjson").exists());
}

#[tokio::test]
async fn a_killed_import_goes_on_where_it_was_and_stores_nothing_twice() {
    let (folder, door) = (Folder::new(), Door::default());
    let path = folder.file("events.ndjson", lines(5_000));
    for (calls, behind) in [(2, 1_000), (3, 2_500)] {
        door.hang_after(Some(calls));
        let killed = tokio::time::timeout(Duration::from_secs(1), run(&door, &path)).await;
        assert!(killed.is_err(), "it was dropped half-way");
        let note: serde_json::Value = serde_json::from_str(&folder.read("events.ndjson.progress")).expect("a note");
        assert_eq!(note["line"], behind);
    }
    door.hang_after(None);
    let rest = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&rest), rest.resumed_behind), ((5_000, 5_000, 0, 0, 0), 2_500));
    assert_eq!(door.stored(), 5_000);
    assert!(said(&rest).starts_with("went on behind line 2500; all runs together:\n"));
}

#[tokio::test]
async fn refused_lines_are_listed_with_their_fields_and_the_others_taken() {
    let (folder, door) = (Folder::new(), Door::default());
    let own = r#"{"kind":"risk","version":"1","tenant_id":"acme","idempotency_key":"k","amount":"#;
    let text = format!(
        "{}garbage\x1b[2J\n\n{{\"kind\":\"risk\",\"version\":\"1\",\"tenant_id\":\"acme\",\"amount\":\"x\",\"extra\":1}}\n{own}1}}\n{own}2}}\n{own}1}}\n{}\n",
        line(1),
        "x".repeat(ImportOptions::LINE_MAX + 1)
    );
    let path = folder.file("events.ndjson", text);
    let done = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&done), done.is_whole()), ((7, 2, 1, 1, 3), false));
    let report = folder.read("events.ndjson.rejected.ndjson");
    let report: Vec<serde_json::Value> = report.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let numbers: Vec<_> = report.iter().map(|r| r["line"].as_u64()).collect();
    assert_eq!(numbers, [Some(2), Some(4), Some(6), Some(8)]);
    assert_eq!(report[1]["errors"][0]["pointer"], "/amount");
    assert_eq!(report[1]["errors"][1]["pointer"], "/extra");
    assert!(report[2]["reason"].as_str().is_some_and(|r| r.starts_with("conflict: the key \"k\" was used before")));
    let said = said(&done);
    assert!(said.contains("  line 2: broken JSON") && said.contains("  line 8: the line is longer than"), "{said}");
    assert!(!said.contains('\x1b'), "a control character must not reach the terminal");
    assert!(said.contains("every line that was not taken, with its reason: "), "{said}");
}

#[tokio::test]
async fn the_report_of_a_killed_import_holds_each_refused_line_once() {
    let (folder, door) = (Folder::new(), Door::default());
    let text: String = (1..=2_000).map(|n| if n % 100 == 0 { "garbage\n".to_owned() } else { line(n) }).collect();
    let path = folder.file("events.ndjson", text);
    door.hang_after(Some(1));
    assert!(tokio::time::timeout(Duration::from_millis(500), run(&door, &path)).await.is_err());
    // What a kill between the report and the note would have left behind.
    let report = folder.0.join("events.ndjson.rejected.ndjson");
    let mut text = std::fs::read_to_string(&report).expect("there");
    text.push_str("{\"line\":600,\"reason\":\"half");
    std::fs::write(&report, text).expect("written");
    door.hang_after(None);
    let done = run(&door, &path).await.expect("imported");
    assert_eq!(counts(&done), (2_000, 1_980, 0, 0, 20));
    let lines: Vec<u64> = folder
        .read("events.ndjson.rejected.ndjson")
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON")["line"].as_u64().expect("a line"))
        .collect();
    assert_eq!(lines, (1..=20).map(|n| n * 100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_cut_in_mid_line_is_taken_up_to_there_and_goes_on_when_it_is_complete() {
    let (folder, door) = (Folder::new(), Door::default());
    let whole = lines(700);
    let path = folder.file("events.ndjson", &whole[..whole.len() - 20]);
    let cut = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&cut), cut.cut, cut.is_whole()), ((699, 699, 0, 0, 0), Some(700), false));
    assert!(said(&cut).contains("line 700 is cut off: the file ends in the middle of it"), "{}", said(&cut));
    folder.file("events.ndjson", whole + &line(701));
    let done = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&done), done.cut, done.resumed_behind), ((701, 701, 0, 0, 0), None, 699));
    assert_eq!(door.stored(), 701);
    let first: Vec<String> = door.keys().into_iter().map(|(_, key)| key[..64].to_owned()).collect();
    assert!(first.iter().all(|hash| *hash == first[0]), "a grown file keeps its first keys");
}

#[tokio::test]
async fn a_last_line_without_a_line_end_is_a_line_and_a_grown_file_counts_on_from_it() {
    let (folder, door) = (Folder::new(), Door::default());
    let text = lines(3);
    let path = folder.file("events.ndjson", text.trim_end());
    assert_eq!(counts(&run(&door, &path).await.expect("imported")), (3, 3, 0, 0, 0));
    folder.file("events.ndjson", text + "garbage\n" + &line(5));
    let grown = run(&door, &path).await.expect("imported");
    assert_eq!((counts(&grown), grown.rejections[0].line), ((5, 4, 0, 0, 1), 4));
}

#[tokio::test]
async fn wrong_input_is_named_and_nothing_is_taken() {
    let (folder, door) = (Folder::new(), Door::default());
    let missing = run(&door, &folder.0.join("nowhere.ndjson")).await.expect_err("missing");
    assert!(matches!(missing, ImportError::Input { .. }), "{missing}");
    let empty = run(&door, &folder.file("empty.ndjson", "\n \n")).await.expect_err("empty");
    assert_eq!(empty.to_string(), "find a line to import: it is empty");
    let directory = run(&door, &folder.0).await.expect_err("a folder");
    assert!(matches!(directory, ImportError::NotRegular(_) | ImportError::Input { .. }), "{directory}");
    let mut options = ImportOptions::new(Input::File(folder.file("a.ndjson", lines(1))));
    options.key_prefix = Some("ä".into());
    let prefix = import(&door, options).await.expect_err("a bad prefix");
    assert!(prefix.to_string().contains("--key-prefix must be"), "{prefix}");
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn a_progress_file_that_does_not_fit_stops_the_import_before_it_begins() {
    let (folder, door) = (Folder::new(), Door::default());
    let path = folder.file("events.ndjson", lines(10));
    folder.file("events.ndjson.progress", "{\"half\":");
    let unreadable = run(&door, &path).await.expect_err("unreadable");
    assert!(unreadable.to_string().contains("it is no progress file"), "{unreadable}");
    assert!(unreadable.advice().contains("delete it to begin at the first line"));
    std::fs::remove_file(folder.0.join("events.ndjson.progress")).expect("there");
    run(&door, &path).await.expect("imported");
    folder.file("events.ndjson", lines(9) + "{}\n");
    let other = run(&door, &path).await.expect_err("another file");
    assert!(other.to_string().contains("it belongs to another file, or the file was changed"), "{other}");
    folder.file("events.ndjson", lines(10));
    let mut options = ImportOptions::new(Input::File(path));
    options.tenant = Some(riskfleet::domain::TenantId::parse("other").expect("legal"));
    let tenant = import(&door, options).await.expect_err("another tenant");
    assert!(tenant.to_string().contains("it was begun with --tenant none, not \"other\""), "{tenant}");
    assert_eq!(door.stored(), 10);
}

#[tokio::test]
async fn a_shut_door_is_tried_again_with_patience_and_not_for_ever() {
    let wait = Duration::from_millis(150);
    let text = lines(20);
    let door = Door::failing(vec![
        IntakeError::Full(wait),
        IntakeError::Backlog { unpublished: 9, retry_after: wait },
        IntakeError::StoreAway { retry_after: wait },
    ]);
    let began = tokio::time::Instant::now();
    let piped = || Input::Piped(Box::new(std::io::Cursor::new(text.clone().into_bytes())));
    let options = || ImportOptions { key_prefix: Some("p".into()), ..ImportOptions::new(piped()) };
    assert_eq!(counts(&import(&door, options()).await.expect("taken")), (20, 20, 0, 0, 0));
    assert!(began.elapsed() >= wait * 3);
    let shut = Door::failing(vec![IntakeError::Full(Duration::ZERO); 100_000]);
    let impatient = ImportOptions { patience: Duration::from_secs(1), ..options() };
    let gave_up = import(&shut, impatient).await.expect_err("shut");
    assert!(gave_up.to_string().contains("the queue is full"), "{gave_up}");
    assert!(shut.inner.lock().expect("whole").calls <= 6, "a door that names no delay is not stormed");
    let stopping = Door::failing(vec![IntakeError::Stopping]);
    let stopped = import(&stopping, options()).await.expect_err("stopping");
    assert!(stopped.to_string().contains("this process is stopping; every line up to 0 has its answer"), "{stopped}");
}

#[tokio::test]
async fn piped_lines_need_keys_and_can_not_be_gone_on_with() {
    let (folder, door) = (Folder::new(), Door::default());
    let own = "{\"kind\":\"risk\",\"version\":\"1\",\"tenant_id\":\"acme\",\"idempotency_key\":\"k\"}\n";
    let piped = || Input::Piped(Box::new(std::io::Cursor::new((line(1) + own).into_bytes())));
    let done = import(&door, ImportOptions::new(piped())).await.expect("imported");
    assert_eq!(counts(&done), (2, 1, 0, 0, 1));
    assert!(done.rejections[0].reason.contains("--key-prefix"), "{:?}", done.rejections);
    assert_eq!(done.rejected_file, None);
    let with = ImportOptions { progress_file: Some(folder.0.join("p")), ..ImportOptions::new(piped()) };
    assert!(import(&door, with).await.expect_err("refused").to_string().contains("--progress needs a file"));
    let report = folder.0.join("refused");
    let with = ImportOptions { rejected_file: Some(report.clone()), ..ImportOptions::new(piped()) };
    assert_eq!(import(&door, with).await.expect("imported").rejected_file, Some(report));
}
