//! Values of fields: the part of them that another run has as well, and how two of them differ.

use std::sync::LazyLock;

use regex::Regex;

/// Keys whose values are another's in each run, whoever sends it.
const UNSTEADY: [&str; 12] = [
    "_dd.p.tid",
    "container.id",
    "host.id",
    "k8s.pod.ip",
    "k8s.pod.name",
    "k8s.pod.uid",
    "otel.trace_id",
    "process.pid",
    "process.parent_pid",
    "service.instance.id",
    "thread.id",
    "tracecheck.run.id",
];

/// Returns whether a key's value is another one in each run, so that only its presence can be compared: ids, processes, and ports, which
/// are whatever was free.
pub(super) fn is_unsteady(key: &str) -> bool {
    UNSTEADY.contains(&key) || key.ends_with(".port")
}

static PARTS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    let compiled = |pattern: &str| Regex::new(pattern).unwrap_or_else(|_| unreachable!());
    [
        (compiled(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "‹id›"),
        (compiled(r"(?i)\b(?:1-[0-9a-f]{8}-[0-9a-f]{24}|[0-9a-f]{32}|[0-9a-f]{16})\b"), "‹id›"),
        (compiled(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"), "‹time›"),
        (compiled(r"(?i)\b0x[0-9a-f]{6,16}\b"), "‹address›"),
        (compiled(r"\b\d{15,20}\b"), "‹number›"),
        (
            compiled(
                r"(127\.0\.0\.1|localhost|\[::1\]|\b(?:10|172|192)(?:\.\d{1,3}){3}):\d{2,5}\b",
            ),
            "$1",
        ),
    ]
});

/// Returns the part of a value that does not change from run to run: without ids, times, addresses in memory, and ports of this machine.
/// JSON has its keys in order.
pub(super) fn steady(key: &str, text: &str) -> String {
    if is_unsteady(key) {
        return String::new();
    }
    let json =
        text.starts_with(['[', '{']).then(|| serde_json::from_str::<serde_json::Value>(text).ok());
    let mut text = json.flatten().map_or_else(|| text.to_owned(), |value| value.to_string());
    // Ids of letters alone are as good as none.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return text;
    }
    for (pattern, instead) in PARTS.iter() {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&text, *instead) {
            text = changed;
        }
    }
    text
}

/// How a text became another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Change {
    /// In a way that can be said without the values: `without query`.
    Way(String),
    /// The one became the other.
    Into(String, String),
    /// One of more pairs than are listed one by one.
    Other,
}

/// Longest value that a cause is kept apart by, in characters.
const MAX_APART: usize = 200;
/// Longest beginning or end that is named: characters.
const MAX_AFFIX: usize = 40;
/// Fewest characters that a text is said to be cut to.
const MIN_CUT: usize = 100;

/// Says how B's value comes of A's, both without what changes from run to run.
pub(super) fn change(a: &str, b: &str) -> Change {
    let way = |text: String| Change::Way(text);
    match (a.is_empty(), b.is_empty()) {
        (false, true) => return way("empty".to_owned()),
        (true, false) => return way("empty in A, and not".to_owned()),
        _ => {}
    }
    let without_query =
        |text: &str| text.split_once(['?', '#']).map(|(before, _)| before.to_owned());
    if without_query(a).as_deref() == Some(b) {
        return way("without query".to_owned());
    }
    if without_query(b).as_deref() == Some(a) {
        return way("with a query".to_owned());
    }
    let length = |text: &str| text.chars().count();
    if length(b) >= MIN_CUT && a.starts_with(b) {
        return way(format!("cut to {} characters", length(b)));
    }
    if length(a) >= MIN_CUT && b.starts_with(a) {
        return way(format!("longer than the {} characters of A", length(a)));
    }
    if a.to_lowercase() == b.to_lowercase() {
        return way("in other capitals".to_owned());
    }
    let affix = |long: &str, short: &str| {
        let before = long.strip_suffix(short).map(|affix| ("prefix", affix.to_owned()));
        let affix =
            before.or_else(|| long.strip_prefix(short).map(|affix| ("suffix", affix.to_owned())));
        affix.filter(|(_, affix)| length(affix) <= MAX_AFFIX && length(short) >= 3)
    };
    if let Some((what, affix)) = affix(a, b) {
        return way(format!("without the {what} `{affix}`"));
    }
    if let Some((what, affix)) = affix(b, a) {
        return way(format!("with the {what} `{affix}`"));
    }
    if length(a) > MAX_APART || length(b) > MAX_APART {
        return Change::Other;
    }
    Change::Into(a.to_owned(), b.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_from_run_to_run_is_taken_out_of_a_value() {
        for (text, expected) in [
            ("http://127.0.0.1:37659/a?b=1", "http://127.0.0.1/a?b=1"),
            ("http://10.42.0.7:8080/a", "http://10.42.0.7/a"),
            ("http://shop:8080/a", "http://shop:8080/a"),
            ("of 6b0cd3a6149f218a9edc7bb999c0d7bd and d8890bb6ebbbde64", "of ‹id› and ‹id›"),
            ("1-6b0cd3a6-149f218a9edc7bb999c0d7bd", "‹id›"),
            ("eccae38e-2d96-409d-b4dd-588b1a6c531e!", "‹id›!"),
            ("at 2026-11-30T01:38:45.123Z in 0x7f00aa00bb00", "at ‹time› in ‹address›"),
            (
                r#"[{"time_unix_nano":1796002726424826603,"name":"x"}]"#,
                r#"[{"name":"x","time_unix_nano":‹number›}]"#,
            ),
            ("order 12345", "order 12345"),
        ] {
            assert_eq!(steady("http.url", text), expected);
        }
        assert_eq!(steady("server.port", "8080"), "");
    }

    #[test]
    fn a_change_is_named_where_it_can_be() {
        let long = "x".repeat(150);
        for (a, b, expected) in [
            ("/a?b=c", "/a", "without query"),
            ("/a", "/a?b=c", "with a query"),
            ("GET", "get", "in other capitals"),
            ("shop", "", "empty"),
            ("", "shop", "empty in A, and not"),
            ("prod.shop", "shop", "without the prefix `prod.`"),
            ("shop", "shop-v2", "with the suffix `-v2`"),
            (&long, &long[..120], "cut to 120 characters"),
        ] {
            assert_eq!(change(a, b), Change::Way(expected.to_owned()), "{a} {b}");
        }
        assert_eq!(change("a", "b"), Change::Into("a".to_owned(), "b".to_owned()));
        assert_eq!(change(&"x".repeat(201), "b"), Change::Other);
    }
}
