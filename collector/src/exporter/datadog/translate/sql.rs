//! Queries without their literals, as the agent shows them (agent, `pkg/obfuscate/sql.go` and `sql_tokenizer.go`, as the
//! exporter sets them up: without a DBMS).
//!
//! `libdd-trace-obfuscation` does the same job for tracers and comes to other texts: braces, Postgres's operators, open ends.

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// What stands in place of a literal.
const REPLACED: Cow<'static, [u8]> = Cow::Borrowed(b"?");

/// The query without literals, comments and aliases; none if it cannot be read or nothing is left of it.
///
/// It is read twice if it must: with backslashes that escape what comes after them, and with backslashes that do not.
pub(super) fn obfuscated(query: &[u8]) -> Option<Vec<u8>> {
    let query = std::str::from_utf8(query).ok()?;
    [true, false].into_iter().find_map(|escapes| attempt(query, escapes))
}

/// What a token is, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An operator or a bracket.
    Sign(u8),
    /// An operator of several signs, `:name`, or a word that means nothing here.
    Other,
    /// The end of the query.
    End,
    Identifier,
    Literal,
    DoubleQuoted,
    Comment,
    As,
    Savepoint,
    Select,
    Update,
    Delete,
    /// Left out; may be taken together with others like it.
    Groupable,
    /// The same of an opening parenthesis.
    GroupableParenthesis,
    /// Left out, with what comes next.
    Filtered,
    /// Within an alias in square brackets.
    BracketedAlias,
}

type Token<'a> = (Kind, Option<Cow<'a, [u8]>>);

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

/// Reads tokens. What it does at odd places (`-.x`, zero bytes, braces) is what the agent's does, step by step.
struct Tokenizer<'a> {
    query: &'a str,
    /// Where the text of the token that is being read begins.
    start: usize,
    /// Where the next character begins.
    offset: usize,
    /// The character read last, which is not yet part of a token; none at the end.
    last: Option<char>,
    /// The agent's count of bytes, by which it knows a brace that begins a query.
    position: usize,
    /// Braces that are open, of which the first began the query.
    braces: usize,
    /// Whether a backslash in a string escapes what comes after it.
    escapes: bool,
}

impl<'a> Tokenizer<'a> {
    fn new(query: &'a str, escapes: bool) -> Self {
        Self { query, start: 0, offset: 0, last: Some('\0'), position: 0, braces: 0, escapes }
    }

    fn advance(&mut self) {
        let next = match self.query.as_bytes().get(self.offset) {
            Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
            _ => self.query[self.offset..].chars().next(),
        };
        match next {
            None => self.position += 1,
            Some(char) => {
                if self.last != Some('\0') || self.position > 0 {
                    self.position += char.len_utf8();
                }
                self.offset += char.len_utf8();
            }
        }
        self.last = next;
    }

    fn skip_while(&mut self, accepts: impl Fn(char) -> bool) {
        self.skip(|byte| accepts(char::from(byte)), &accepts);
    }

    /// Passes over characters of these classes; `accepts` is asked about those beyond ASCII.
    fn skip_class(&mut self, classes: u8, accepts: impl Fn(char) -> bool) {
        self.skip(|byte| CLASSES[usize::from(byte)] & classes != 0, accepts);
    }

    #[inline]
    fn skip(&mut self, accepts_ascii: impl Fn(u8) -> bool, accepts: impl Fn(char) -> bool) {
        while let Some(last) = self.last {
            let accepted = if last.is_ascii() { accepts_ascii(last as u8) } else { accepts(last) };
            if !accepted {
                return;
            }
            // All of these but the last are passed over at once.
            if self.position > 0 {
                let rest = &self.query.as_bytes()[self.offset..];
                let ends = |byte: &u8| !byte.is_ascii() || !accepts_ascii(*byte);
                let run = rest.iter().position(ends).unwrap_or(rest.len());
                if run > 0 {
                    (self.position, self.offset) = (self.position + run, self.offset + run);
                    self.last = Some(char::from(rest[run - 1]));
                }
            }
            self.advance();
        }
    }

    /// The text read since the last call, without the last character.
    fn text(&mut self) -> Cow<'a, [u8]> {
        let end = self.offset - self.last.map_or(0, char::len_utf8);
        // After `-.` this may be within a character.
        let text = &self.query.as_bytes()[self.start..end];
        self.start = end;
        Cow::Borrowed(text)
    }

    /// The next token; none if there is what no query has.
    fn next(&mut self) -> Option<(Kind, Cow<'a, [u8]>)> {
        // A zero byte right after a token is passed over, as the agent has it for its beginning.
        if self.last == Some('\0') {
            self.advance();
        }
        self.skip_class(SPACE, char::is_whitespace);
        self.text();
        let Some(char) = self.last else { return Some((Kind::End, Cow::Borrowed(b""))) };
        if is_leading_letter(char) {
            return Some(self.identifier());
        }
        if char.is_ascii_digit() {
            return Some(self.number(false));
        }
        self.advance();
        self.sign(char)
    }

    /// Reads a token that begins with this character, which is no letter and no digit.
    fn sign(&mut self, first: char) -> Option<(Kind, Cow<'a, [u8]>)> {
        let next = self.last;
        let next_is_digit = next.is_some_and(|next| next.is_ascii_digit());
        Some(match (first, next) {
            (':', Some(':')) | ('~', Some('*')) => self.operator(),
            // `]` and `$` end or begin the second part of a slice.
            (':', Some(next)) if matches!(next, '=' | ']' | '$') || next.is_whitespace() => {
                self.single(first)
            }
            (':', next) => {
                next.filter(|next| is_letter(*next) || next.is_ascii_digit())?;
                self.skip_while(|char| is_letter(char) || char.is_ascii_digit() || char == '.');
                (Kind::Other, self.text())
            }
            ('.', _) if next_is_digit => self.number(true),
            ('/', Some('/')) | ('-', Some('-')) | ('#', _) => {
                self.advance();
                self.skip_while(|char| char != '\n');
                self.advance();
                (Kind::Comment, self.text())
            }
            ('/', Some('*')) => {
                self.advance();
                self.long_comment()?
            }
            // For the agent `->` begins with a number of no digits, unless it knows that the query is Postgres's.
            ('-', Some('>')) => self.number(false),
            ('-', _) if next_is_digit => self.number(false),
            ('-', Some('.')) => {
                self.advance();
                if self.last.is_some_and(|next| next.is_ascii_digit()) {
                    return Some(self.number(true));
                }
                self.last = Some('.');
                self.position -= 1;
                self.single('-')
            }
            ('<', Some('=')) => {
                self.advance();
                if self.last == Some('>') { self.operator() } else { (Kind::Other, self.text()) }
            }
            ('<', Some('>')) | ('>' | '!', Some('=')) => self.operator(),
            ('!', Some('~')) => {
                self.advance();
                if self.last == Some('*') { self.operator() } else { (Kind::Other, self.text()) }
            }
            ('!', next) => {
                let may_follow = |next: &char| {
                    "(`'\"+-".contains(*next)
                        || next.is_whitespace()
                        || is_letter(*next)
                        || next.is_ascii_digit()
                };
                next.filter(may_follow)?;
                (Kind::Other, self.text())
            }
            ('\'', _) => (Kind::Literal, self.string('\'')?.into()),
            ('"', _) => (Kind::DoubleQuoted, self.string('"')?.into()),
            ('`', _) => (Kind::Identifier, self.string('`')?.into()),
            ('%', Some('(')) => {
                self.skip_while(|char| char != ')');
                self.advance();
                self.last.filter(|next| is_letter(*next))?;
                self.advance();
                (Kind::Literal, self.text())
            }
            ('%', Some(next)) if is_letter(next) => {
                self.advance();
                (Kind::Literal, self.text())
            }
            ('$', Some('?')) => {
                self.advance();
                (Kind::Literal, self.text())
            }
            ('$', _) if next_is_digit => self.number(false),
            ('$', _) => {
                self.dollar_quoted()?;
                (Kind::Literal, REPLACED)
            }
            ('{', _) if self.position == 1 || self.braces > 0 => {
                self.braces += 1;
                self.single(first)
            }
            ('{', _) => {
                self.skip_while(|char| char != '}');
                self.last?;
                self.advance();
                (Kind::Literal, self.text())
            }
            ('}', _) => {
                self.braces = self.braces.checked_sub(1)?;
                self.single(first)
            }
            (
                '~' | '?' | '=' | ',' | ';' | '(' | ')' | '+' | '*' | '&' | '|' | '^' | ']' | '['
                | '.' | '/' | '-' | '<' | '>' | '%',
                _,
            ) => self.single(first),
            _ => return None,
        })
    }

    fn single(&mut self, sign: char) -> (Kind, Cow<'a, [u8]>) {
        (Kind::Sign(sign as u8), self.text())
    }

    /// An operator whose last sign is the last character.
    fn operator(&mut self) -> (Kind, Cow<'a, [u8]>) {
        self.advance();
        (Kind::Other, self.text())
    }

    fn identifier(&mut self) -> (Kind, Cow<'a, [u8]>) {
        self.advance();
        self.skip_class(LETTER | DIGIT | OF_NAMES, is_letter);
        let text = self.text();
        (keyword(&text).unwrap_or(Kind::Identifier), text)
    }

    fn number(&mut self, has_point: bool) -> (Kind, Cow<'a, [u8]>) {
        let mut is_decimal = true;
        if !has_point {
            if self.last == Some('0') {
                self.advance();
                if matches!(self.last, Some('x' | 'X')) {
                    self.advance();
                    self.skip_while(|char| char.is_ascii_hexdigit());
                    is_decimal = false;
                } else {
                    self.skip_while(|char| ('0'..'8').contains(&char));
                    if matches!(self.last, Some('8' | '9')) {
                        self.skip_class(DIGIT, |_| false);
                    }
                }
            } else {
                self.skip_class(DIGIT, |_| false);
            }
            if is_decimal && self.last == Some('.') {
                self.advance();
            }
        }
        if is_decimal {
            self.skip_class(DIGIT, |_| false);
            if matches!(self.last, Some('e' | 'E')) {
                self.advance();
                if matches!(self.last, Some('+' | '-')) {
                    self.advance();
                }
                self.skip_class(DIGIT, |_| false);
            }
        }
        (Kind::Literal, self.text())
    }

    fn long_comment(&mut self) -> Option<(Kind, Cow<'a, [u8]>)> {
        loop {
            let char = self.last?;
            self.advance();
            if char == '*' && self.last == Some('/') {
                self.advance();
                return Some((Kind::Comment, self.text()));
            }
        }
    }

    /// Reads a string whose beginning was read; doubled, its delimiter is a part of it. One that is blank keeps its delimiters.
    fn string(&mut self, delimiter: char) -> Option<Vec<u8>> {
        let mut text = String::new();
        loop {
            let mut char = self.last?;
            self.advance();
            if char == delimiter {
                if self.last != Some(delimiter) {
                    break;
                }
                self.advance();
            } else if char == '\\' && self.escapes {
                char = self.last?;
                self.advance();
            }
            text.push(char);
            // What comes up to the next sign that means something here is taken at once.
            let rest = &self.query.as_bytes()[self.offset..];
            let ends = |byte: &u8| {
                !byte.is_ascii() || char::from(*byte) == delimiter || *byte == b'\\' || *byte == 0
            };
            if let Some(last) = self.last.filter(|last| last.is_ascii() && !ends(&(*last as u8)))
                && let run @ 1.. = rest.iter().position(ends).unwrap_or(rest.len())
            {
                text.push(last);
                text.push_str(&self.query[self.offset..self.offset + run - 1]);
                (self.position, self.offset) = (self.position + run, self.offset + run);
                self.last = Some(char::from(rest[run - 1]));
            }
        }
        if text.chars().all(char::is_whitespace) {
            text = String::from_iter([delimiter, delimiter]);
        }
        Some(text.into_bytes())
    }

    /// Reads `$tag$ ... $tag$`, whose first sign was read.
    fn dollar_quoted(&mut self) -> Option<()> {
        let tag = self.string('$')?;
        let delimiter = if tag == b"$$" { tag } else { [b"$", &*tag, b"$"].concat() };
        let mut matched = 0;
        while matched < delimiter.len() {
            let char = self.last?;
            self.advance();
            // The agent compares a character's lowest byte, and does not go back where it does not match.
            matched = if char as u32 as u8 == delimiter[matched] { matched + 1 } else { 0 };
        }
        Some(())
    }
}

/// What a character of ASCII is, in [`CLASSES`].
const SPACE: u8 = 1;
const DIGIT: u8 = 2;
/// As [`is_letter`] has it.
const LETTER: u8 = 4;
/// Within a name, but not at its beginning.
const OF_NAMES: u8 = 8;

static CLASSES: [u8; 256] = {
    let (mut classes, mut byte) = ([0; 256], 0);
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t'..=b'\r' => SPACE,
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' | b'#' => LETTER,
            b'.' | b'*' | b'$' => OF_NAMES,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// The words that mean something here and begin with this letter.
fn keywords(first: u8) -> &'static [(&'static str, Kind)] {
    match first.to_ascii_uppercase() {
        b'A' => &[("AS", Kind::As), ("ALTER", Kind::Other)],
        b'B' => &[("BEGIN", Kind::Other)],
        b'C' => &[("CREATE", Kind::Other), ("COMMIT", Kind::Other)],
        b'D' => &[("DELETE", Kind::Delete), ("DROP", Kind::Other)],
        b'F' => &[("FALSE", Kind::Literal), ("FROM", Kind::Other)],
        b'G' => &[("GRANT", Kind::Other)],
        b'I' => &[("INSERT", Kind::Other), ("INTO", Kind::Other)],
        b'J' => &[("JOIN", Kind::Other)],
        b'L' => &[("LIMIT", Kind::Other)],
        b'N' => &[("NULL", Kind::Literal)],
        b'R' => &[("REVOKE", Kind::Other)],
        b'S' => &[("SAVEPOINT", Kind::Savepoint), ("SELECT", Kind::Select)],
        b'T' => &[("TRUE", Kind::Literal), ("TRUNCATE", Kind::Other)],
        b'U' => &[("UPDATE", Kind::Update)],
        _ => &[],
    }
}

fn keyword(text: &[u8]) -> Option<Kind> {
    if text.is_ascii() {
        let mut words = keywords(*text.first()?).iter();
        let found = words.find(|(word, _)| text.eq_ignore_ascii_case(word.as_bytes()));
        return found.map(|(_, kind)| *kind);
    }
    // Two letters beyond ASCII have one of ASCII in upper case.
    let upper = |char| match char {
        '\u{17f}' => 'S',
        '\u{131}' => 'I',
        char => char.to_ascii_uppercase(),
    };
    let text = std::str::from_utf8(text).ok()?;
    let first = u8::try_from(upper(text.chars().next()?)).ok()?;
    let is_word = |word: &str| text.chars().map(upper).eq(word.chars());
    keywords(first).iter().find(|(word, _)| is_word(word)).map(|(_, kind)| *kind)
}

fn is_leading_letter(char: char) -> bool {
    let is_letter = || {
        matches!(
            get_general_category(char),
            Category::UppercaseLetter
                | Category::LowercaseLetter
                | Category::TitlecaseLetter
                | Category::ModifierLetter
                | Category::OtherLetter
        )
    };
    char.is_ascii_alphabetic() || matches!(char, '_' | '@') || !char.is_ascii() && is_letter()
}

/// A letter, or what may stand for one within a name.
fn is_letter(char: char) -> bool {
    is_leading_letter(char) || char == '#'
}

#[cfg(test)]
mod tests {
    use super::obfuscated;

    fn shown(query: &str) -> String {
        let text = obfuscated(query.as_bytes());
        text.map_or("(unreadable)".to_owned(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    /// What the agent makes of them, by its own code.
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
