//! Owns the reading of Rust source for the tidy test: what is code and what is not, where functions
//! begin and end, which modules are named. Knows no rule.

use std::path::{Path, PathBuf};

/// A source file of this project.
pub(super) struct Source {
    /// Relative to the project's root, with `/`.
    pub(super) path: String,
    /// As written.
    pub(super) text: String,
    /// The text with every comment, string and character blanked out; line ends stay.
    pub(super) code: String,
}

/// A function: its name, and the lines from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// The project's root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below these folders of the root, by path.
pub(super) fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("source files are UTF-8");
        let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        Source { path: relative, code: blank(&text), text }
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("read a folder").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

impl Source {
    /// Whether all of it is test code.
    pub(super) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code without its inline test modules, which are blanked out.
    pub(super) fn code_outside_tests(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let mut code = self.code.clone();
        for (at, mark) in self.code.match_indices("#[cfg(test)]") {
            let rest = &self.code[at + mark.len()..];
            let inline = rest.trim_start().starts_with("mod ")
                && rest.find(['{', ';']).is_some_and(|n| rest[n..].starts_with('{'));
            if let (true, Some(end)) = (inline, body_end(rest)) {
                let module = at..at + mark.len() + end + 1;
                let blanked = self.code[module.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' });
                code.replace_range(module.clone(), &blanked.collect::<String>());
            }
        }
        code
    }

    /// The path of its module: `src/a/b.rs` and `src/a/b/mod.rs` are `[a, b]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "mod" | "lib")).collect()
    }

    /// The modules of this crate that the code outside of tests names, each as its first two
    /// segments (`adapters`, `postgres`), with the line.
    pub(super) fn named_modules(&self) -> Vec<(usize, Vec<String>)> {
        let code = self.code_outside_tests();
        let mut named = Vec::new();
        for (at, rest) in paths_from_root(&code, &self.module()) {
            let line = line_of(&code, at);
            for path in leaves(rest) {
                named.push((line, path));
            }
        }
        named
    }

    /// Its functions, nested ones also by themselves.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let word_begins = !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let name: String = self.code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !word_begins || name.is_empty() {
                continue;
            }
            if let Some(end) = body_end(&self.code[at..]) {
                let line = line_of(&self.code, at);
                found.push(Function { name, line, lines: line_of(&self.code, at + end) - line + 1 });
            }
        }
        found
    }
}

/// The line, from 1, of a place in a text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|b| *b == b'\n').count() + 1
}

/// Where the body of the function that begins here ends; none when it has no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && curly == 0 => return None,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly == 0 && round == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// What follows `crate::`, or enough `super::` to reach the root, with its place.
fn paths_from_root<'a>(code: &'a str, module: &[&str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            found.push((at, &code[at + mark.len()..]));
        }
    }
    let climb = "super::".repeat(module.len());
    if !module.is_empty() {
        for (at, mark) in code.match_indices(&climb) {
            let rest = &code[at + mark.len()..];
            if !code[..at].ends_with(':') && !rest.starts_with("super::") {
                found.push((at, rest));
            }
        }
    }
    found
}

/// The first two segments of every path in a use tree: of `a::{b, c::D}, e` the paths a::b and a::c.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return split_group(group).into_iter().flat_map(leaves).collect();
    }
    let head: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if head.is_empty() {
        return Vec::new();
    }
    let Some(rest) = tree[head.len()..].strip_prefix("::") else { return vec![vec![head]] };
    let mut deeper = leaves(rest);
    if deeper.is_empty() {
        deeper.push(Vec::new());
    }
    deeper.into_iter().map(|tail| std::iter::once(head.clone()).chain(tail).take(2).collect()).collect()
}

/// The members of a group whose opening brace is behind us.
fn split_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0_i32, 0, Vec::new());
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

/// The text with comments, strings and characters blanked out.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at + find(&bytes[at..], b"\n").unwrap_or(bytes.len() - at),
            b'/' if bytes[at..].starts_with(b"/*") => {
                at + find(&bytes[at..], b"*/").map_or(bytes.len() - at, |n| n + 2)
            }
            b'"' => string_end(bytes, at + 1),
            b'r' | b'b' | b'c' if !is_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole literals and comments are blanked")
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`; none when no raw string begins here.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let prefix = bytes[at..].iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count();
    let hashes = bytes[at + prefix..].iter().take_while(|b| **b == b'#').count();
    let open = at + prefix + hashes;
    if prefix > 2 || !bytes[at..at + prefix].ends_with(b"r") || bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    Some(open + 1 + find(&bytes[open + 1..], &close).map_or(bytes.len() - open - 1, |n| n + close.len()))
}

/// The end of a character literal; none when this is a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at + 1)? {
        b'\\' => Some(at + 3 + find(bytes.get(at + 3..)?, b"'")? + 1),
        first => {
            let length = match first {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xff => 4,
            };
            (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + 2 + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, blank, leaves};

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into(), code: blank(text) }
    }

    #[test]
    fn what_is_no_code_is_blanked() {
        let text = "let a = \"fn { \\\" \"; // fn {\nlet b = r#\"} \" fn\"#; let c: &'a str = '\\''; let d = '{'; /* { */ let é = 'é';";
        let code = blank(text);
        assert_eq!(code.matches(['{', '}', '"']).count(), 0, "{code}");
        assert!(code.contains("&'a str") && code.contains("let b") && code.contains("let d") && code.contains("let é"));
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let s = source(
            "src/x.rs",
            "trait T { fn no_body(&self) -> [u8; 2]; }\nfn two() {\n}\nfn outer(a: fn(u8)) {\n fn inner() {}\n\n}\n",
        );
        let found: Vec<(String, usize, usize)> = s.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("two".into(), 2, 2), ("outer".into(), 4, 4), ("inner".into(), 5, 1)]);
    }

    #[test]
    fn modules_are_found_in_every_form_of_path() {
        let text = "use crate::{domain::{A, b::C}, ports::store};\nfn f() { crate::worker::run(); super::super::ingest::go() }\n\
                    #[cfg(test)]\nmod tests { use crate::wiring::W; }\nuse crate::cli;";
        let named: Vec<String> =
            source("src/api/routes.rs", text).named_modules().into_iter().map(|(_, p)| p.join("::")).collect();
        assert_eq!(named, ["domain::A", "domain::b", "ports::store", "worker::run", "cli", "ingest::go"]);
        assert_eq!(leaves("adapters::postgres::store::Postgres;"), [["adapters", "postgres"]]);
    }
}
