//! Text within the width of a terminal.

/// Wraps a line between words where it is wider than `width` columns, with `indent` spaces before what follows. A
/// longer word stays whole, so that ids and addresses can be copied; a width of less than 40 columns is taken as 40.
pub fn wrapped(line: &str, width: usize, indent: usize) -> String {
    let width = width.max(40);
    let mut out = String::with_capacity(line.len());
    let mut column = 0;
    // What a line begins with is its own indentation.
    let begin = line.len() - line.trim_start_matches(' ').len();
    out.push_str(&line[..begin]);
    column += begin;
    let mut is_first = true;
    for word in line[begin..].split(' ') {
        let length = word.chars().count();
        if !is_first && column + 1 + length > width && column > indent {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if !is_first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        is_first = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_between_words_and_keeps_its_indentation() {
        let line = format!("  rule: {}", "word ".repeat(12).trim_end());
        let broken = wrapped(&line, 40, 4);
        assert!(broken.lines().all(|line| line.chars().count() <= 40), "{broken}");
        assert!(broken.lines().skip(1).all(|line| line.starts_with("    word")), "{broken}");
        assert_eq!(broken.lines().next(), Some("  rule: word word word word word word"));
        assert_eq!(broken.replace("\n   ", ""), line);
    }

    #[test]
    fn a_long_word_stays_whole_and_columns_are_kept_where_there_is_room() {
        let id = "x".repeat(60);
        assert_eq!(
            wrapped(&format!("  trace {id} end"), 40, 4),
            format!("  trace\n    {id}\n    end")
        );
        assert_eq!(wrapped("  a   |  b", 80, 4), "  a   |  b");
    }
}
