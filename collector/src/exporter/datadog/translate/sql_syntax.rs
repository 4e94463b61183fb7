//! Whether the agent's obfuscator takes a text for SQL (agent, `pkg/obfuscate/sql_tokenizer.go`, without a DBMS).
//!
//! Only what it refuses is told here; `libdd-trace-obfuscation` goes on where the agent gives up, so that half a literal
//! could be taken for a name. What a query looks like without its literals is that crate's business.

use std::str::Chars;

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// Whether every token of the query can be read. The agent tries twice if it must: with backslashes that escape, and without.
pub(super) fn is_parsable(query: &str) -> bool {
    [false, true].into_iter().any(|escapes| Scanner::new(query, escapes).scan().is_some())
}

struct Scanner<'a> {
    rest: Chars<'a>,
    next: Option<char>,
    /// Whether a backslash in a string escapes what comes after it.
    escapes: bool,
}

impl<'a> Scanner<'a> {
    fn new(query: &'a str, escapes: bool) -> Self {
        let mut rest = query.chars();
        let next = rest.next();
        Self { rest, next, escapes }
    }

    fn advance(&mut self) -> Option<char> {
        std::mem::replace(&mut self.next, self.rest.next())
    }

    fn skip_while(&mut self, accepts: impl Fn(char) -> bool) {
        while self.next.is_some_and(&accepts) {
            self.advance();
        }
    }

    /// Skips what comes up to `end`, and `end`.
    fn skip_past(&mut self, end: char) -> Option<()> {
        while self.advance()? != end {}
        Some(())
    }

    /// Reads all tokens; none at the first that cannot be read.
    fn scan(mut self) -> Option<()> {
        // Braces that are open, of which the first began the query.
        let (mut is_first, mut curlys) = (true, 0_usize);
        loop {
            let blank_from = self.next;
            self.skip_while(|char| char.is_whitespace() || char == '\0');
            is_first &= self.next == blank_from;
            let Some(char) = self.next else { return Some(()) };
            match char {
                _ if is_leading_letter(char) => {
                    self.advance();
                    self.skip_while(|char| {
                        is_letter(char) || is_digit(char) || ".*$".contains(char)
                    });
                }
                '{' if is_first || curlys > 0 => {
                    curlys += 1;
                    self.advance();
                }
                '}' => {
                    curlys = curlys.checked_sub(1)?;
                    self.advance();
                }
                _ => {
                    self.advance();
                    self.token(char)?;
                }
            }
            is_first = false;
        }
    }

    /// Reads the rest of a token that begins with this character.
    fn token(&mut self, first: char) -> Option<()> {
        match (first, self.next) {
            (':', Some(':')) => {
                self.advance();
            }
            (':', Some(next)) if next == '=' || next.is_whitespace() => {}
            (':', next) => {
                next.filter(|next| is_letter(*next) || is_digit(*next))?;
            }
            ('/', Some('/')) | ('-', Some('-')) => {
                let _to_the_end = self.skip_past('\n');
            }
            ('#', _) => {
                self.advance();
                let _to_the_end = self.skip_past('\n');
            }
            ('/', Some('*')) => {
                self.advance();
                loop {
                    self.skip_past('*')?;
                    if self.next == Some('/') {
                        self.advance();
                        break;
                    }
                }
            }
            ('!', next) => {
                next.filter(|next| {
                    "=~(`'\"+-".contains(*next)
                        || next.is_whitespace()
                        || is_letter(*next)
                        || is_digit(*next)
                })?;
            }
            ('\'' | '"' | '`', _) => {
                self.string(first)?;
            }
            ('%', Some('(')) => {
                self.skip_past(')')?;
                self.advance().filter(|next| is_letter(*next))?;
            }
            ('%', Some(next)) if is_letter(next) => {
                self.advance();
            }
            ('$', Some(next)) if is_digit(next) || next == '?' => {
                self.advance();
            }
            ('$', _) => {
                let tag = self.string('$')?;
                let end = if tag.is_empty() { "$$".to_owned() } else { format!("${tag}$") };
                while !self.rest_starts_with(&end) {
                    self.advance()?;
                }
                for _ in end.chars() {
                    self.advance();
                }
            }
            ('{', _) => self.skip_past('}')?,
            _ if is_digit(first) || "~?=,;()+*&|^][./-<>%".contains(first) => {}
            _ => return None,
        }
        Some(())
    }

    fn rest_starts_with(&self, text: &str) -> bool {
        let mut chars = text.chars();
        chars.next() == self.next && self.rest.as_str().starts_with(chars.as_str())
    }

    /// Reads a string whose beginning was read; doubled, its delimiter is a part of it.
    fn string(&mut self, delimiter: char) -> Option<String> {
        let mut text = String::new();
        loop {
            let mut char = self.advance()?;
            if char == delimiter {
                if self.next != Some(delimiter) {
                    return Some(text);
                }
                self.advance();
            } else if char == '\\' && self.escapes {
                char = self.advance()?;
            }
            text.push(char);
        }
    }
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

fn is_letter(char: char) -> bool {
    is_leading_letter(char) || char == '#'
}

fn is_digit(char: char) -> bool {
    char.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::is_parsable;

    #[test]
    fn queries_and_what_looks_like_them_can_be_read() {
        for whole in [
            "SELECT 'it''s' -- ' \n, \"a\"",
            "/* ' */ SELECT 1",
            "SELECT 'a\\' FROM t",
            r"SELECT 'a\'b'",
            "SELECT a-b, x::text, $1, :name, a := 1 # rest '",
            "SELECT {d 1}",
            "{ call {fn} }",
            "autovacuum: VACUUM t",
            "SELECT $tag$ it's $tag$, $$ '$$",
            "SELECT größe FROM 表 WHERE a != 1 AND NOT !b AND c LIKE %s OR %(name)s",
            "",
        ] {
            assert!(is_parsable(whole), "{whole}");
        }
    }

    #[test]
    fn what_has_open_ends_or_odd_characters_cannot() {
        for cut in [
            "SELECT 'unterminated",
            "SELECT \"a",
            "SELECT 1 /* x",
            "SELECT {{x}}",
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
            "SELECT %(name) ",
        ] {
            assert!(!is_parsable(cut), "{cut}");
        }
    }
}
