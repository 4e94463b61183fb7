//! A member of a span's `tracestate`, read as strictly as the reference reads it.

const MAX_MEMBERS: usize = 32;
const MAX_VALUE: usize = 256;

/// The value of a key; `None` if there is none, or the text is not valid.
pub(super) fn value<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (mut keys, mut found) = (Vec::new(), None);
    for member in text.split(|byte| *byte == b',').filter(|member| !member.is_empty()) {
        let at = member.iter().position(|byte| *byte == b'=')?;
        let name = trim_start(&member[..at]);
        let value = trim_end(&member[at + 1..]);
        if !is_key(name) || !is_value(value) || keys.contains(&name) || keys.len() == MAX_MEMBERS {
            return None;
        }
        keys.push(name);
        if name == key {
            found = Some(value);
        }
    }
    found
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| is_blank(byte)).count();
    &text[blanks..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let blanks = text.iter().rev().take_while(|byte| is_blank(byte)).count();
    &text[..text.len() - blanks]
}

fn is_key(key: &[u8]) -> bool {
    let is_part = |part: &[u8], max: usize, may_begin_with_digit: bool| {
        let [first, rest @ ..] = part else { return false };
        let begins = first.is_ascii_lowercase() || may_begin_with_digit && first.is_ascii_digit();
        let fits = |byte: &u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'*' | b'/')
        };
        begins && rest.len() <= max && rest.iter().all(fits)
    };
    match key.iter().position(|byte| *byte == b'@') {
        Some(at) => is_part(&key[..at], 240, true) && is_part(&key[at + 1..], 13, false),
        None => is_part(key, 255, false),
    }
}

fn is_value(value: &[u8]) -> bool {
    let fits = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(fits) && value.last() != Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_member_is_found_in_what_is_valid() {
        assert_eq!(value(b"a=1,b=2", b"b"), Some(&b"2"[..]));
        assert_eq!(value(b" a=1 ,,1t@v=x y", b"1t@v"), Some(&b"x y"[..]));
        assert_eq!(value(b"a=1 ", b"a"), Some(&b"1"[..]));
        for wrong in ["a", "a=", "A=1,b=2", "b=2,b=2", "1=1,b=2", "b=2,c=\u{7f}", "a=1=1,b=2"] {
            assert_eq!(value(wrong.as_bytes(), b"b"), None, "{wrong}");
        }
        let members = |count: usize| -> String {
            (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(value(members(32).as_bytes(), b"k31"), Some(&b"v"[..]));
        assert_eq!(value(members(33).as_bytes(), b"k31"), None);
    }
}
