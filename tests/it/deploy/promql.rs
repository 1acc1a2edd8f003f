//! Owns the reading of queries (PromQL) as far as names go: which metrics, which labels. Knows no
//! metric, and leaves it to promtool whether a query can be read at all.

use std::iter::Peekable;
use std::str::CharIndices;

/// A metric that a query selects, with the labels that it is selected by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// Empty where a selector names none.
    pub(super) metric: String,
    /// Names of labels, without their values.
    pub(super) labels: Vec<String>,
}

/// The names in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// In the order of the query.
    pub(super) selectors: Vec<Selector>,
    /// What is grouped by, or matched on.
    pub(super) grouped: Vec<String>,
}

/// Words that take labels in parentheses.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that are neither metric nor function.
const WORDS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "inf", "nan"];

/// The names in `query`.
pub(super) fn names(query: &str) -> Names {
    let mut names = Names::default();
    let mut chars = query.char_indices().peekable();
    while let Some(&(at, c)) = chars.peek() {
        match c {
            '"' => skip_text(&mut chars),
            '[' => while chars.next().is_some_and(|(_, c)| c != ']') {},
            '{' => names.selectors.push(Selector { metric: String::new(), labels: matchers(&mut chars) }),
            // A number, or a duration behind `offset`: its unit is no name.
            _ if c.is_ascii_digit() => _ = word(query, at, &mut chars),
            _ if is_name(c) => {
                let word = word(query, at, &mut chars);
                take(word, &mut chars, &mut names);
            }
            _ => _ = chars.next(),
        }
    }
    names
}

fn take(word: &str, chars: &mut Peekable<CharIndices<'_>>, names: &mut Names) {
    skip_space(chars);
    let next = chars.peek().map(|(_, c)| *c);
    match next {
        Some('(') if GROUPING.contains(&word) => names.grouped.extend(listed(chars, ')')),
        // A function, or an aggregation over all.
        Some('(') => {}
        _ if GROUPING.contains(&word) || WORDS.contains(&word.to_ascii_lowercase().as_str()) => {}
        // `sum by (…)`: an aggregation, its grouping first.
        Some('b' | 'w') => {}
        Some('{') => names.selectors.push(Selector { metric: word.to_owned(), labels: matchers(chars) }),
        _ => names.selectors.push(Selector { metric: word.to_owned(), labels: Vec::new() }),
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn word<'a>(query: &'a str, from: usize, chars: &mut Peekable<CharIndices<'_>>) -> &'a str {
    let mut end = from;
    while let Some((at, c)) = chars.next_if(|(_, c)| is_name(*c)) {
        end = at + c.len_utf8();
    }
    &query[from..end]
}

fn skip_space(chars: &mut Peekable<CharIndices<'_>>) {
    while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
}

/// From a quotation mark to behind the closing one.
fn skip_text(chars: &mut Peekable<CharIndices<'_>>) {
    chars.next();
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '"' => return,
            _ => {}
        }
    }
}

/// The labels between `{` and `}`.
fn matchers(chars: &mut Peekable<CharIndices<'_>>) -> Vec<String> {
    listed(chars, '}')
}

/// The names from an opening mark to `close`; texts are passed over.
fn listed(chars: &mut Peekable<CharIndices<'_>>, close: char) -> Vec<String> {
    let (mut labels, mut label) = (Vec::new(), String::new());
    chars.next();
    while let Some(&(_, c)) = chars.peek() {
        if c == '"' {
            skip_text(chars);
            continue;
        }
        chars.next();
        if is_name(c) {
            label.push(c);
            continue;
        }
        if !label.is_empty() {
            labels.push(std::mem::take(&mut label));
        }
        if c == close {
            break;
        }
    }
    labels
}

#[test]
fn names_are_told_from_functions_words_and_texts() {
    let read = |query: &str| {
        let names = names(query);
        let selectors: Vec<(String, String)> =
            names.selectors.into_iter().map(|s| (s.metric, s.labels.join(" "))).collect();
        (selectors, names.grouped.join(" "))
    };
    let one = |metric: &str, labels: &str| (metric.to_owned(), labels.to_owned());
    assert_eq!(
        read(r#"sum by (le, job) (rate(a_bucket{job=~"$job|x{y}", le="1\""}[$__rate_interval])) > 14.4 * 0.01"#),
        (vec![one("a_bucket", "job le")], "le job".into())
    );
    assert_eq!(
        read("a:b:rate5m / (c > 0) and on () d"),
        (vec![one("a:b:rate5m", ""), one("c", ""), one("d", "")], String::new())
    );
    assert_eq!(read("max(abs(x)) == 2 or absent(y offset 5m) unless z{}").0.len(), 3);
    assert_eq!(read("topk(10, sum without (tenant) (x)) * 3600 / 1e6"), (vec![one("x", "")], "tenant".into()));
    assert_eq!(read(r#"{__name__="x"}"#).0, vec![one("", "__name__")], "a selector without a metric is seen");
}
