//! Tests: an `up` fleet signs its audit by itself, and what it exports is verified elsewhere.

use crate::harness::fleet::http;
use crate::harness::namespace;
use crate::harness::process::{Process, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `riskfleet ARGS` without any settings; gives the exit code and standard output.
fn operate(args: &[&str]) -> (Option<i32>, String) {
    let output = Program::Operator.command(&BTreeMap::new()).args(args).output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_up_fleet_signs_what_it_decides_and_anybody_can_verify_it() {
    let folder = Folder(std::env::temp_dir().join(format!("riskfleet-it-{}", namespace())));
    let data = folder.0.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    for start in 1..=2 {
        let mut up = Process::up(&data, &BTreeMap::new(), &folder.0);
        up.ready().await;
        let event = json!({ "version": "1.0", "tenant_id": "acme" });
        let sent = http().post(up.url("/v1/risk")).header("X-Idempotency-Key", format!("k{start}"));
        let sent = sent.header("Prefer", "wait=5").json(&event).send().await.expect("sent");
        assert!(sent.status().is_success(), "{}", sent.status());
        up.signal("TERM");
        assert!(up.exit(Duration::from_secs(40)).await.success(), "{}", up.log_tail());
    }
    let path = |name: &str| folder.0.join(name).to_str().expect("a plain path").to_owned();
    let (fleet, file, outside) = (path("data"), path("audit.jsonl"), path("data/checkpoints.jsonl"));
    let (code, key) = operate(&["--data", &fleet, "audit", "key"]);
    assert_eq!((code, key.trim().len()), (Some(0), 64), "{key}");
    assert_eq!(operate(&["--data", &fleet, "audit", "export", "--out", &file]).0, Some(0));
    let verify = ["audit", "verify", &file, "--public-key", key.trim(), "--anchor", &outside, "--json"];
    let (code, said) = operate(&verify);
    let shown: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &shown["ok"], &shown["records"]), (Some(0), &json!(true), &json!(2)), "{said}");
    // One checkpoint a start at least, here and outside, and the manifest.
    assert!(shown["signatures"]["checked"].as_u64() >= Some(5), "{said}");
    // Without its last record, and with everything that speaks of it.
    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(&file, text.lines().skip(1).map(|l| format!("{l}\n")).collect::<String>()).expect("written");
    let (code, said) = operate(&verify);
    let shown: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &shown["bad"][0]["seq"]), (Some(1), &json!(1)), "{said}");
}
