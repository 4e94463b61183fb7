//! Queries that leave with the literals of their users: what `literal-in-query` warns of.
//!
//! Only SQL is read. What it says names the query's shape, and never a literal.

use std::collections::BTreeMap;

use crate::{finding::Warning, record::Record, trace::Span};

/// Name of the rule that queries are captured without literals.
pub(crate) const LITERAL_IN_QUERY: &str = "literal-in-query";

/// The attributes that have a query, by old conventions, current ones, and Datadog's.
const QUERIES: [&str; 3] = ["db.query.text", "db.statement", "sql.query"];
/// How many queries a warning names.
const NAMED: usize = 3;
/// How many letters of each.
const SHOWN: usize = 100;

/// Returns a warning if queries were captured with literals, apart from those of scenarios that tolerate it.
pub fn warning<'r>(system: &str, records: impl IntoIterator<Item = &'r Record>) -> Option<Warning> {
    let judged = records
        .into_iter()
        .filter(|record| !record.scenario.tolerate.contains_key(LITERAL_IN_QUERY));
    let traces =
        judged.flat_map(|record| &record.cases).filter_map(|case| case.evidence.trace.as_ref());
    let mut found: BTreeMap<(&str, &'static str, String), usize> = BTreeMap::new();
    for span in traces.flat_map(|trace| &trace.spans) {
        for (field, query) in queries(span) {
            if let Some(shape) = shape_of_leak(query) {
                *found.entry((&span.service, field, shape)).or_default() += 1;
            }
        }
    }
    if found.is_empty() {
        return None;
    }
    let mut named: Vec<String> = found
        .iter()
        .map(|((service, field, shape), count)| {
            let cut: String = shape.chars().take(SHOWN).collect();
            let rest = if cut.len() < shape.len() { "…" } else { "" };
            format!("`{field}` of `{service}`, {count} times: `{cut}{rest}`")
        })
        .collect();
    let more = named.split_off(NAMED.min(named.len()));
    let others = match more.len() {
        0 => String::new(),
        others => format!("; and {others} more (-v has them)"),
    };
    let text = format!(
        "{system}: queries were captured with their literals (shown as `?` here): {}{others}; they are private data of users: have the instrumentation or the exporter take them out, or tolerate `{LITERAL_IN_QUERY}`; `tracecheck explain {LITERAL_IN_QUERY}` says more",
        named.join("; ")
    );
    Some(Warning { text, more })
}

/// The texts of a span that are queries. A resource name is one only where the span is a database's.
fn queries(span: &Span) -> impl Iterator<Item = (&'static str, &str)> {
    let is_database =
        ["db.system.name", "db.system"].iter().any(|key| span.meta.contains_key(*key));
    let resource = is_database.then_some(("resource", span.resource.as_str()));
    let of_meta = QUERIES.into_iter();
    of_meta.filter_map(|key| Some((key, span.meta.get(key)?.as_str()))).chain(resource)
}

/// Returns a query of SQL with `?` for each literal, if it has any.
fn shape_of_leak(query: &str) -> Option<String> {
    const VERBS: [&str; 8] =
        ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "WITH", "CALL"];
    let verb = query.split_ascii_whitespace().next()?.to_ascii_uppercase();
    let mut scan =
        Scan { rest: query, out: String::new(), last: Last::Other, lists: Vec::new(), literals: 0 };
    if !VERBS.contains(&verb.as_str()) {
        return None;
    }
    while scan.step() {}
    (scan.literals > 0).then_some(scan.out)
}

/// The preceding token, as far as it decides what a number is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// A comparison, `LIKE` or `BETWEEN`: a value follows.
    Comparison,
    /// `IN` or `VALUES`: a list of values follows.
    List,
    /// A comma.
    Comma,
    Other,
}

struct Scan<'q> {
    rest: &'q str,
    out: String,
    last: Last,
    /// For each open parenthesis whether it is a list of values.
    lists: Vec<bool>,
    literals: usize,
}

impl Scan<'_> {
    /// Reads on by one token; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        match first {
            '\'' => self.quoted(),
            '"' | '`' | '[' => {
                let end = if first == '[' { ']' } else { first };
                let length = self.rest[1..].find(end).map_or(self.rest.len(), |at| at + 2);
                self.copy(length, Last::Other);
            }
            '-' if self.rest.starts_with("--") => {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            }
            '/' if self.rest.starts_with("/*") => {
                self.skip(self.rest.find("*/").map_or(self.rest.len(), |at| at + 2));
            }
            // A placeholder by name or number: `:name`, `@p1`, `$1`, `%s`; or a text between `$tag$`.
            ':' | '@' | '$' | '%' => {
                let name = self.rest[1..].find(|letter| !is_word(letter));
                let length = name.map_or(self.rest.len(), |at| at + 1);
                let tag = &self.rest[..length];
                let after = &self.rest[length..];
                match (first, after.starts_with('$')) {
                    ('$', true) => {
                        let close = format!("{tag}$");
                        let text = &after[1..];
                        let end = text
                            .find(&close)
                            .map_or(self.rest.len(), |at| length + 1 + at + close.len());
                        self.literal(end);
                    }
                    _ => self.copy(length, Last::Other),
                }
            }
            '0'..='9' => self.number(),
            '.' if self.rest[1..].starts_with(|digit: char| digit.is_ascii_digit()) => {
                self.number()
            }
            letter if is_word(letter) => {
                let length = self
                    .rest
                    .find(|letter| !is_word(letter) && letter != '.')
                    .unwrap_or(self.rest.len());
                let last = match self.rest[..length].to_ascii_uppercase().as_str() {
                    "LIKE" | "ILIKE" | "BETWEEN" => Last::Comparison,
                    "IN" | "VALUES" => Last::List,
                    _ => Last::Other,
                };
                self.copy(length, last);
            }
            '(' => {
                self.lists.push(self.last == Last::List);
                self.copy(1, Last::Other);
            }
            ')' => {
                // Another row of values may follow.
                let was_list = self.lists.pop().unwrap_or_default();
                self.copy(1, if was_list { Last::List } else { Last::Other });
            }
            ',' => {
                let last = if self.last == Last::List { Last::List } else { Last::Comma };
                self.copy(1, last);
            }
            '=' | '<' | '>' => self.copy(1, Last::Comparison),
            other if other.is_whitespace() || matches!(other, '+' | '-') => {
                self.copy(other.len_utf8(), self.last);
            }
            other => self.copy(other.len_utf8(), Last::Other),
        }
        true
    }

    /// Reads a text in quotes, in which a quote is doubled or behind a backslash. An empty one, and a placeholder, say nothing.
    fn quoted(&mut self) {
        let (bytes, mut at) = (self.rest.as_bytes(), 1);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
                b'\'' => break,
                b'\\' => at += 1,
                _ => {}
            }
            at += 1;
        }
        let content = &bytes[1..at.min(bytes.len())];
        let end = (at + 1).min(bytes.len());
        if matches!(content, b"" | b"?" | b"%s" | b"***") {
            self.copy(end, Last::Other);
        } else {
            self.literal(end);
        }
    }

    /// Reads a number. It is a literal of a user's where it is compared with or stands in a list of values; `LIMIT 10`, a
    /// type's length and `SELECT 1` are the program's own.
    fn number(&mut self) {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let length = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        let is_in_list = self.lists.last() == Some(&true);
        if self.last == Last::Comparison || is_in_list {
            self.literal(length);
        } else {
            self.copy(length, Last::Other);
        }
    }

    fn literal(&mut self, length: usize) {
        self.literals += 1;
        self.out.push('?');
        self.rest = &self.rest[length..];
        self.last = Last::Other;
    }

    fn copy(&mut self, length: usize, last: Last) {
        let (text, rest) = self.rest.split_at(length);
        self.out.push_str(text);
        (self.rest, self.last) = (rest, last);
    }

    fn skip(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::World;

    #[test]
    fn literals_of_sql_are_found_and_not_shown() {
        for (query, shape) in [
            (
                "SELECT * FROM orders WHERE id = 17 AND name = 'joe'",
                "SELECT * FROM orders WHERE id = ? AND name = ?",
            ),
            (
                "select a from t where x in (1, 2,3) -- why\n",
                "select a from t where x in (?, ?,?) \n",
            ),
            (
                "INSERT INTO t VALUES (1,'it''s'),(-2.5e3,NULL)",
                "INSERT INTO t VALUES (?,?),(-?,NULL)",
            ),
            ("SELECT $tag$secret$tag$, $1", "SELECT ?, $1"),
            ("UPDATE t SET a = 'unfinished", "UPDATE t SET a = ?"),
            ("DELETE FROM t WHERE a LIKE '%x%' LIMIT 10", "DELETE FROM t WHERE a LIKE ? LIMIT 10"),
            ("SELECT 'a\\' b' FROM t", "SELECT ? FROM t"),
        ] {
            assert_eq!(shape_of_leak(query).as_deref(), Some(shape), "{query}");
        }
    }

    #[test]
    fn what_has_no_literal_is_no_leak() {
        for query in [
            "SELECT * FROM orders WHERE id = ? AND name = '?'",
            "SELECT a1, t2.c3 FROM table_2024 t2 WHERE a1 = $1 AND b = :name2 AND c = @p1 AND d = %s",
            "SELECT 1",
            "SELECT \"col 7\", `t`.`c 8`, [x 9] FROM [dbo].[t 10] LIMIT 10 OFFSET 20",
            "SELECT CAST(a AS VARCHAR(20)) FROM t -- id = 7 'x'",
            "SELECT * FROM t WHERE a IN ( ? ) /* tenant = 12 */",
            "INSERT INTO t VALUES ( ? )",
            "GET user:17",
            "{\"find\": \"users\"}",
            "Non-parsable SQL query",
            "SELECT",
            "",
            "CALL proc(?, '')",
            "SELECT \u{e9}7 FROM caf\u{e9} WHERE n = ''",
        ] {
            assert_eq!(shape_of_leak(query), None, "{query}");
        }
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        for text in [
            "SELECT '",
            "SELECT '\\",
            "SELECT $",
            "SELECT $$",
            "SELECT \"",
            "SELECT /*",
            "SELECT \u{1f600}'\u{1f600}\\\u{1f600}",
        ] {
            let _ = shape_of_leak(text);
        }
        proptest::proptest!(|(text in "(SELECT|WITH) [ -~\u{e9}\u{1f600}]{0,60}")| {
            if let Some(shape) = shape_of_leak(&text) {
                proptest::prop_assert!(shape.contains('?'));
            }
        });
    }

    fn leaking(meta: &[(&str, &str)], resource: &str) -> World {
        let mut world = World::healthy();
        let trace = world.record.cases[0].evidence.trace.as_mut().unwrap();
        let span = trace.spans.last_mut().unwrap();
        span.resource = resource.to_owned();
        span.meta.extend(meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        world
    }

    #[test]
    fn a_warning_names_the_field_and_the_shape_and_never_the_literal() {
        let secret = "SELECT * FROM cards WHERE number = '4111111111111111'";
        for (field, meta, resource) in [
            ("db.statement", &[("db.statement", secret)][..], "SELECT cards"),
            ("db.query.text", &[("db.query.text", secret)], "SELECT cards"),
            ("resource", &[("db.system", "postgresql")], secret),
        ] {
            let world = leaking(meta, resource);
            let warning = warning("the shop", [&world.record]).unwrap().text;
            assert!(
                warning.contains(&format!("`{field}` of `sample-app-2`, 1 times")),
                "{warning}"
            );
            assert!(warning.contains("WHERE number = ?`"), "{warning}");
            assert!(!warning.contains("4111"), "{warning}");
        }
    }

    #[test]
    fn healthy_queries_other_resources_and_what_is_tolerated_warn_of_nothing() {
        assert_eq!(warning("s", [&World::healthy().record]), None);
        let obfuscated = leaking(&[("db.statement", "SELECT * FROM t WHERE a = ?")], "SELECT t");
        assert_eq!(warning("s", [&obfuscated.record]), None);
        let of_no_database = leaking(&[], "SELECT a WHERE b = 'c'");
        assert_eq!(warning("s", [&of_no_database.record]), None);
        let mut tolerated = leaking(&[("db.statement", "SELECT a FROM b WHERE c = 'd'")], "x");
        tolerated.record.scenario.tolerate.insert(LITERAL_IN_QUERY.to_owned(), "a demo".to_owned());
        assert_eq!(warning("s", [&tolerated.record]), None);
    }
}
