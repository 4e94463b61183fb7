//! Texts of spans, which are whatever somebody sent, as people may be shown them.

/// Returns at most `most` characters of a text, with a visible form of everything that would move the cursor, change
/// a terminal's state, be invisible, or change the direction of text. Characters left out are counted.
pub fn visible(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most.saturating_mul(2)));
    let mut letters = text.chars();
    for letter in letters.by_ref().take(most) {
        push(&mut out, letter);
    }
    let more = letters.count();
    if more > 0 {
        out.push_str(&format!("… ({more} more characters)"));
    }
    out
}

/// Returns a text of several lines as [`visible`] does, without a limit.
pub fn visible_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push('\n'),
            letter => push(&mut out, letter),
        }
    }
    out
}

fn push(out: &mut String, letter: char) {
    match letter {
        // Unicode has a picture of each of them.
        '\0'..='\x1f' => out.extend(char::from_u32(0x2400 + u32::from(letter))),
        '\x7f' => out.push('\u{2421}'),
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => out.push_str(&format!("‹U+{:04X}›", u32::from(letter))),
        letter => out.push(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_on_a_terminal_or_hide_is_shown() {
        assert_eq!(visible("a\x1b[31m\u{202e}b\r\n", 99), "a␛[31m‹U+202E›b␍␊");
        assert_eq!(visible("\u{9b}2J\u{feff}é日本", 99), "‹U+009B›2J‹U+FEFF›é日本");
        assert_eq!(visible(&"x".repeat(25_000), 10), "xxxxxxxxxx… (24990 more characters)");
        assert_eq!(visible_lines("a\n\x07b"), "a\n␇b");
    }
}
