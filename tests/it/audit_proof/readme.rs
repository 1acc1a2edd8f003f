//! Tests: the script in README verifies what this program exports, and finds what was done to it.

use super::exports::{Export, Folder};
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../../README.md");

fn script() -> &'static str {
    let section = README.find("\n## The audit, and how").expect("README has the section");
    let begin = section + README[section..].find("```python\n").expect("it has a script") + "```python\n".len();
    let end = README[begin..].find("```").expect("it ends");
    &README[begin..begin + end]
}

/// Runs the script; none where there is no python3.
fn run(script: &Path, export: &Path) -> Option<(bool, String)> {
    let output = Command::new("python3").arg(script).arg(export).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said))
}

#[test]
fn the_script_in_readme_verifies_an_export_and_finds_each_deed() {
    assert!(script().lines().count() <= 40, "it has {} lines", script().lines().count());
    let folder = Folder::new();
    let path = folder.write("verify.py", script());
    let whole = Export::new(20);
    let Some((ok, said)) = run(&path, &folder.write("audit.jsonl", &whole.text())) else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    assert!(ok && said == "whole: 60 records in 3 chains\n", "{said}");
    type Deed = fn(&mut Export);
    let deeds: [(&str, Deed); 5] = [
        ("acme/workflow/4 was changed", |e| e.records[3].body = e.records[3].body.replace("worker:1", "worker:2")),
        ("acme/workflow/5 does not follow 3", |e| drop(e.records.remove(3))),
        ("globex/workflow/4 was relabelled", |e| e.records[3].tenant = e.records[59].tenant.clone()),
        ("globex/workflow ends before 20", |e| drop(e.records.pop())),
        ("acme/workflow/11 is not what was signed", |e| {
            let mut anew = Export::new(20);
            anew.checkpoints.clone_from(&e.checkpoints);
            let mut head = riskfleet::domain::ChainHead::EMPTY;
            for n in 0..20 {
                let chain = ("acme", riskfleet::domain::Stream::Workflow);
                anew.records[n] = super::exports::record(&mut head, chain, "mallory");
            }
            anew.close(None);
            *e = anew;
        }),
    ];
    for (want, deed) in deeds {
        let mut changed = whole.clone();
        deed(&mut changed);
        let (ok, said) = run(&path, &folder.write("changed.jsonl", &changed.text())).expect("it ran before");
        assert!(!ok && said.lines().any(|line| line == want), "{want}: {said}");
    }
}
