//! Tests: the project against its own rules. Layers, sizes, headers, clocks, and what is written
//! down about settings.

mod source;

use std::process::Command;

use source::{Source, line_of, root, sources};

/// Nothing is longer: a file, a function.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// A file in the repository is no bigger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const ROLES: [&str; 7] = ["ingest", "worker", "governance", "api", "console", "autoscale", "cli"];
const FOUNDATIONS: [&str; 4] = ["config", "telemetry", "lifecycle", "mutants"];
const MIDDLE: [&str; 3] = ["pipeline", "resilience", "crypto"];

/// What a module may name besides itself; `None` for a module that has no layer.
fn may_name(module: &str) -> Option<Vec<&'static str>> {
    let below_roles = || [&FOUNDATIONS[..], &MIDDLE, &["ports", "domain"]].concat();
    match module {
        "domain" => Some(vec![]),
        "ports" => Some(vec!["domain"]),
        m if MIDDLE.contains(&m) => Some(vec!["ports", "domain"]),
        m if FOUNDATIONS.contains(&m) => Some([&FOUNDATIONS[..], &["ports", "domain"]].concat()),
        m if ROLES.contains(&m) || m == "adapters" => Some(below_roles()),
        "wiring" => Some([&below_roles()[..], &ROLES, &["adapters"]].concat()),
        _ => None,
    }
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let segments: Vec<&str> = source.path.trim_start_matches("src/").split(['/', '.']).collect();
        let own = segments[0];
        if own == "lib" {
            continue;
        }
        let Some(allowed) = may_name(own) else {
            wrong.push(format!("{}: the module {own} has no layer", source.path));
            continue;
        };
        for (line, named) in source.named_modules() {
            let other_adapter = own == "adapters"
                && named[0] == own
                && segments.len() > 3
                && named.get(1).is_some_and(|n| n != segments[1]);
            if named[0] != own && !allowed.contains(&named[0].as_str()) || other_adapter {
                wrong.push(format!("{}:{line} names {}", source.path, named.join("::")));
            }
        }
    }
    assert_none(
        &wrong,
        "bin → wiring → {roles, adapters} → {pipeline, resilience, crypto} → ports → domain; roles and adapters \
         never name each other",
    );
}

#[test]
fn programs_only_wire() {
    let allowed = [&FOUNDATIONS[..], &["wiring", "cli"]].concat();
    let mut wrong = Vec::new();
    for source in sources(&["bin"]) {
        for (at, mark) in source.code.match_indices("riskfleet::") {
            let module: String =
                source.code[at + mark.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !allowed.contains(&module.as_str()) {
                wrong.push(format!("{}:{} names {module}", source.path, line_of(&source.code, at)));
            }
        }
        if source.text.lines().count() > 60 {
            wrong.push(format!("{} has more than 60 lines", source.path));
        }
    }
    assert_none(&wrong, "a program parses, loads its settings, wires and runs");
}

#[test]
fn the_domain_knows_no_machine() {
    let mut wrong = Vec::new();
    for (folder, foreign) in [
        ("src/domain", &["tokio", "sqlx", "lapin", "redis", "axum", "reqwest", "tracing", "metrics", "rand"][..]),
        ("src/pipeline", &["tokio", "sqlx", "lapin", "redis", "axum", "reqwest", "rand"]),
        ("src/crypto", &["tokio", "sqlx", "lapin", "redis", "axum", "reqwest"]),
        ("src/ports", &["sqlx", "lapin", "redis", "axum", "reqwest"]),
    ] {
        for source in sources(&[folder]) {
            let code = source.code_outside_tests();
            for library in foreign {
                for (at, _) in code.match_indices(&format!("{library}::")) {
                    if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                        wrong.push(format!("{}:{} uses {library}", source.path, line_of(&code, at)));
                    }
                }
            }
        }
    }
    assert_none(&wrong, "what is pure stays pure");
}

#[test]
fn files_and_functions_can_be_read_whole() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "bin", "load", "chaos", "tests"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines", source.path));
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{}:{} fn {} has {} lines",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    assert_none(&wrong, &format!("at most {FILE_LINES_MAX} lines a file, {FUNCTION_LINES_MAX} a function"));
}

#[test]
fn every_file_says_what_it_owns() {
    let silent = |s: &Source| !s.text.starts_with("//! ");
    let wrong: Vec<String> =
        sources(&["src", "bin", "load", "chaos", "tests"]).into_iter().filter(silent).map(|s| s.path).collect();
    assert_none(&wrong, "a file opens with `//! `");
}

#[test]
fn time_and_chance_come_from_outside() {
    let clocks =
        ["Utc::now(", "Local::now(", "SystemTime::now(", "Uuid::new_v4(", "Uuid::now_v7(", "thread_rng(", "rand::rng("];
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        if source.path.starts_with("src/lifecycle") {
            continue;
        }
        let code = source.code_outside_tests();
        for clock in clocks {
            for (at, _) in code.match_indices(clock) {
                wrong.push(format!("{}:{} calls {clock})", source.path, line_of(&code, at)));
            }
        }
    }
    assert_none(&wrong, "clock and randomness are arguments; only src/lifecycle has the real ones");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "bin", "load"]) {
        let code = source.code_outside_tests();
        for (at, _) in code.match_indices(".unwrap(") {
            wrong.push(format!("{}:{}", source.path, line_of(&code, at)));
        }
    }
    assert_none(&wrong, "`expect` with the proof, or an error");
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("failed to read {path}: {e}"))
}

#[test]
fn the_readme_names_every_setting() {
    let readme = read("README.md");
    let row = |variable: &str| readme.lines().any(|l| l.starts_with('|') && l.contains(&format!("`{variable}`")));
    let wrong: Vec<String> =
        riskfleet::config::settings().iter().map(riskfleet::config::Setting::variable).filter(|v| !row(v)).collect();
    assert_none(&wrong, "README.md has a table row for every setting");
}

#[test]
fn the_repository_holds_sources_only() {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("run git");
    assert!(output.status.success(), "git lists the files: {}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let made = ["target/", "data/", "node_modules/", "__pycache__/", ".venv/"];
    let ends = [".pyc", ".o", ".so", ".rlib", ".log", ".db", ".sqlite", ".ndjson", ".progress", ".orig", ".rej"];
    let mut wrong = Vec::new();
    for path in list.split_terminator('\0') {
        if made.iter().any(|m| path.starts_with(m) || path.contains(&format!("/{m}")))
            || ends.iter().any(|e| path.ends_with(e))
        {
            wrong.push(format!("{path} is made, not written"));
        }
        // A file that was deleted and not yet committed has no size.
        let bytes = std::fs::metadata(root().join(path)).map_or(0, |m| m.len());
        if bytes > FILE_BYTES_MAX {
            wrong.push(format!("{path} has {bytes} bytes"));
        }
    }
    assert_none(&wrong, "no bulk, nothing that a program has made");
}
