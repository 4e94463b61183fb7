//! Queries without their literals, as the agent shows them (agent, `pkg/obfuscate/sql.go` and `sql_tokenizer.go`, as the
//! exporter sets them up: without a DBMS).
//!
//! `libdd-trace-obfuscation` does the same job for tracers and comes to other texts: braces, Postgres's operators, open ends.

use self::token::{Kind, REPLACED, Token, Tokenizer};

mod token;

/// The query without literals, comments and aliases; none if it cannot be read or nothing is left of it.
///
/// It is read twice if it must: with backslashes that escape what comes after them, and with backslashes that do not.
pub(super) fn obfuscated(query: &[u8]) -> Option<Vec<u8>> {
    let query = std::str::from_utf8(query).ok()?;
    [true, false].into_iter().find_map(|escapes| attempt(query, escapes))
}

fn attempt(query: &str, escapes: bool) -> Option<Vec<u8>> {
    let mut tokens = Tokenizer::new(query, escapes);
    let mut out = Vec::with_capacity(query.len());
    let mut last = Kind::Filtered;
    let mut groups = Groups::default();
    loop {
        let (kind, text) = tokens.next()?;
        if kind == Kind::End {
            break;
        }
        let (kind, text) = without_alias((kind, Some(text)), last)?;
        let (kind, text) = without_literal((kind, text), last);
        let (kind, text) = groups.taken_together((kind, text), last);
        if let Some(text) = text {
            let follows_closely =
                kind == Kind::Sign(b',') || kind == Kind::Sign(b'=') && last == Kind::Sign(b':');
            if !out.is_empty() && !follows_closely {
                out.push(b' ');
            }
            out.extend_from_slice(&text);
        }
        last = kind;
    }
    (!out.is_empty()).then_some(out)
}

/// Leaves out comments, semicolons and aliases; none where an alias in brackets is no name.
fn without_alias(token: Token<'_>, last: Kind) -> Option<Token<'_>> {
    if last == Kind::BracketedAlias && token.0 != Kind::Sign(b']') {
        return (token.0 == Kind::Identifier).then_some((Kind::BracketedAlias, None));
    }
    Some(match (last, token.0) {
        (Kind::As | Kind::BracketedAlias, Kind::Sign(b'[')) => (Kind::BracketedAlias, None),
        (Kind::As | Kind::BracketedAlias, _) | (_, Kind::Comment) => (Kind::Filtered, None),
        (_, Kind::Sign(b';')) => (Kind::Groupable, None),
        (_, Kind::As) => (Kind::As, None),
        _ => token,
    })
}

/// Puts a question mark in place of a literal.
fn without_literal(token: Token<'_>, last: Kind) -> Token<'_> {
    let is_literal = match token.0 {
        _ if last == Kind::Savepoint => true,
        Kind::DoubleQuoted => last == Kind::Sign(b'='),
        kind => matches!(kind, Kind::Literal | Kind::Sign(b'?')),
    };
    if is_literal { (groupable(token.0), Some(REPLACED)) } else { token }
}

fn groupable(kind: Kind) -> Kind {
    if kind == Kind::Sign(b'(') { Kind::GroupableParenthesis } else { Kind::Groupable }
}

/// How many literals, and groups of them in parentheses, are being taken together.
#[derive(Debug, Default)]
struct Groups {
    literals: usize,
    parentheses: usize,
}

impl Groups {
    /// Makes one question mark of a list of them, and one list of a list of lists.
    fn taken_together<'a>(&mut self, (kind, text): Token<'a>, last: Kind) -> Token<'a> {
        let is_groupable = matches!(kind, Kind::Groupable | Kind::GroupableParenthesis);
        let opens = kind == Kind::Sign(b'(');
        if last == Kind::Sign(b'(') && is_groupable || opens && self.parentheses > 0 {
            self.parentheses += 1;
        }
        let begins_subquery =
            matches!(kind, Kind::Select | Kind::Delete | Kind::Update | Kind::Identifier);
        if self.parentheses > 0 && last == Kind::GroupableParenthesis && begins_subquery {
            *self = Self::default();
            return (kind, Some([b"( ", &*text.unwrap_or_default()].concat().into()));
        }
        if is_groupable {
            self.literals += 1;
            if self.literals > 1 {
                return (groupable(kind), None);
            }
        } else if self.literals > 0 && matches!(kind, Kind::Sign(b',' | b'?'))
            || self.parentheses > 1
        {
            return (groupable(kind), None);
        } else if !matches!(kind, Kind::Sign(b',' | b'(' | b')')) {
            *self = Self::default();
        }
        (kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::obfuscated;

    fn shown(query: &str) -> String {
        let text = obfuscated(query.as_bytes());
        text.map_or("(unreadable)".to_owned(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    /// Literals with the agent's results, by its own code.
    #[test]
    fn literals_are_replaced_as_the_agent_replaces_them() {
        for (query, text) in [
            (
                "SELECT * FROM orders WHERE id = 17 AND name = 'joe' -- why",
                "SELECT * FROM orders WHERE id = ? AND name = ?",
            ),
            (
                "select a.b as x, \"c\".d AS [an] from t1 where x in (1, 2,3) and y = \"secret\"",
                "select a.b, c . d from t1 where x in ( ? ) and y = ?",
            ),
            (
                "INSERT INTO t (a, b) VALUES ('it''s', 1.5e10), (NULL, TRUE), (0x1F, 017)",
                "INSERT INTO t ( a, b ) VALUES ( ? )",
            ),
            (
                "SELECT $1, $?, ?, :name, @p, a := 1, x::text, %s, %(n)s",
                "SELECT ? :name, @p, a := ? x :: text, ?",
            ),
            (
                "SELECT a->>'k', b -> 'l', c #> '{a}'\n, d @> '{1}'::jsonb",
                "SELECT a ? > > ? b ? > ? c, d @ > ? :: jsonb",
            ),
            (
                "SELECT * FROM (SELECT 1) WHERE (a) IN ((1, 2), (3))",
                "SELECT * FROM ( SELECT ? ) WHERE ( a ) IN ( ( ? )",
            ),
            ("{ call {fn now()} }", "{ call { fn now ( ) } }"),
            ("{\"broken\": ", "{ broken :"),
            ("{}", "{ }"),
            ("SELECT {d '2020'}", "SELECT ?"),
            ("SAVEPOINT sp; BEGIN; COMMIT;", "SAVEPOINT ? BEGIN COMMIT"),
            ("SELECT 'a\\'b', 'c'", "SELECT ?"),
            ("SELECT 'a\\' FROM t", "SELECT ? FROM t"),
            ("SELECT $tag$ it's $tag$, $$ '$$", "SELECT ?"),
            ("SELECT `` , \"\", ' '", "SELECT ``, \"\", ?"),
            ("SELECT -.x, -.5, - 1, a-1, +.5", "SELECT -. x, ? - ? a ? + ?"),
            (
                "a != 1 AND NOT !b AND c !~* 'x' <=> d <> e",
                "a != ? AND NOT ! b AND c !~* ? <=> d <> e",
            ),
            ("autovacuum: VACUUM t", "autovacuum : VACUUM t"),
            ("SELECT größe FROM 表 \u{17f}elect 1", "SELECT größe FROM 表 \u{17f}elect ?"),
            ("a\0b", "a b"),
        ] {
            assert_eq!(shown(query), text, "{query}");
        }
    }

    #[test]
    fn what_has_open_ends_or_odd_characters_cannot_be_read() {
        for query in [
            "SELECT 'unterminated",
            "SELECT \"a",
            "SELECT 1 /* x",
            "SELECT {x",
            "SELECT }",
            "SELECT `a",
            "SELECT 'a''",
            "a\\ b",
            "name :",
            "a :-1",
            "a !/ b",
            "SELECT 😀",
            "\u{feff}SELECT 1",
            "SELECT $tag$ x $gat$",
            "SELECT $tag$$tag$",
            "SELECT %(name) ",
            "a AS [1]",
            "\0a",
            "",
            "-- only",
            ";",
        ] {
            assert_eq!(shown(query), "(unreadable)", "{query}");
        }
        assert_eq!(obfuscated(b"SELECT \xff"), None);
    }
}
