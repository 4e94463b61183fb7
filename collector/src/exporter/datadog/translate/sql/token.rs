//! Tokens of a query (agent, `pkg/obfuscate/sql_tokenizer.go`).

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// Replacement of a literal.
pub(super) const REPLACED: Cow<'static, [u8]> = Cow::Borrowed(b"?");

/// Kind of a token, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

pub(super) type Token<'a> = (Kind, Option<Cow<'a, [u8]>>);

/// Reads tokens. What it does at odd places (`-.x`, zero bytes, braces) is what the agent's does, step by step.
pub(super) struct Tokenizer<'a> {
    query: &'a str,
    /// Offset at which the token that is being read begins.
    start: usize,
    /// Offset of the next character.
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
    pub(super) fn new(query: &'a str, escapes: bool) -> Self {
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

    /// Returns the next token; none if there is what no query has.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(Kind, Cow<'a, [u8]>)> {
        match self.simple() {
            Some((kind, text)) => Some((kind, Cow::Borrowed(text))),
            None => self.any(),
        }
    }

    /// Reads a word, a whole number or a bracket of ASCII, as most tokens are, where one comes next and is not the end. It reads
    /// what [`Self::any`] reads, with fewer steps.
    #[inline]
    fn simple(&mut self) -> Option<(Kind, &'a [u8])> {
        let bytes = self.query.as_bytes();
        let class = |at: usize| bytes.get(at).map_or(0, |byte| CLASSES[usize::from(*byte)]);
        // The first character is not counted in the same way, and after `-.` the last one is not where it seems to be.
        let last = self.last.filter(|last| last.is_ascii() && self.position > 0)?;
        let mut start = self.offset - 1;
        if bytes.get(start) != Some(&(last as u8)) {
            return None;
        }
        while class(start) & SPACE != 0 {
            start += 1;
        }
        let (first, mut end) = (class(start), start + 1);
        let rest = match first {
            _ if first & FIRST_LETTER != 0 => LETTER | DIGIT | OF_NAMES,
            _ if first & DIGIT != 0 && bytes[start] != b'0' => DIGIT,
            _ if first & SINGLE != 0 => 0,
            _ => return None,
        };
        while class(end) & rest != 0 {
            end += 1;
        }
        let next = *bytes.get(end).filter(|next| next.is_ascii() && **next != 0)?;
        let text = &bytes[start..end];
        let kind = match rest {
            0 => Kind::Sign(bytes[start]),
            DIGIT if matches!(next, b'.' | b'e' | b'E') => return None,
            DIGIT => Kind::Literal,
            _ => keyword(text).unwrap_or(Kind::Identifier),
        };
        self.position += end + 1 - self.offset;
        (self.start, self.offset, self.last) = (end, end + 1, Some(char::from(next)));
        Some((kind, text))
    }

    /// As [`Self::next`].
    fn any(&mut self) -> Option<(Kind, Cow<'a, [u8]>)> {
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
            ('\'', _) => {
                self.skip_string('\'', |_| {})?;
                (Kind::Literal, REPLACED)
            }
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

    /// Reads a string whose beginning was read. One that is blank keeps its delimiters.
    fn string(&mut self, delimiter: char) -> Option<Vec<u8>> {
        let mut text = String::new();
        self.skip_string(delimiter, |part| text.push_str(part))?;
        if text.chars().all(char::is_whitespace) {
            text = String::from_iter([delimiter, delimiter]);
        }
        Some(text.into_bytes())
    }

    /// Passes over a string whose beginning was read; doubled, its delimiter is a part of it. `part` gets what it says.
    fn skip_string(&mut self, delimiter: char, mut part: impl FnMut(&str)) -> Option<()> {
        loop {
            let mut char = self.last?;
            self.advance();
            if char == delimiter {
                if self.last != Some(delimiter) {
                    return Some(());
                }
                self.advance();
            } else if char == '\\' && self.escapes {
                char = self.last?;
                self.advance();
            }
            part(char.encode_utf8(&mut [0; 4]));
            // What comes up to the next sign that means something here is taken at once.
            let rest = &self.query.as_bytes()[self.offset..];
            let ends = |byte: &u8| {
                !byte.is_ascii() || char::from(*byte) == delimiter || *byte == b'\\' || *byte == 0
            };
            if let Some(last) = self.last.filter(|last| last.is_ascii() && !ends(&(*last as u8)))
                && let run @ 1.. = rest.iter().position(ends).unwrap_or(rest.len())
            {
                part(last.encode_utf8(&mut [0; 4]));
                part(&self.query[self.offset..self.offset + run - 1]);
                (self.position, self.offset) = (self.position + run, self.offset + run);
                self.last = Some(char::from(rest[run - 1]));
            }
        }
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

/// Class of a character of ASCII, in [`CLASSES`].
const SPACE: u8 = 1;
const DIGIT: u8 = 2;
/// As [`is_letter`] has it.
const LETTER: u8 = 4;
/// Within a name, but not at its beginning.
const OF_NAMES: u8 = 8;
/// At the beginning of a name.
const FIRST_LETTER: u8 = 16;
/// A token by itself, whatever comes next.
const SINGLE: u8 = 32;

static CLASSES: [u8; 256] = {
    let (mut classes, mut byte) = ([0; 256], 0);
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t'..=b'\r' => SPACE,
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' => LETTER | FIRST_LETTER,
            b'#' => LETTER,
            b'=' | b',' | b'(' | b')' => SINGLE,
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
mod tests;
