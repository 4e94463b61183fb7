//! Datadog's rules for names and tags (agent, `pkg/trace/traceutil/normalize`).
//!
//! What is already normal is recognised without a copy. `libdd-trace-normalization` has such rules too, but differs from the
//! reference: in services' leading digits, in names' slashes, and it has none for tag values.

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::limits::{MAX_NAME_BYTES, MAX_TAG_CHARS};
use crate::exporter::datadog::model::Text;

/// A character that a name keeps as it is, in [`CLASSES`]; underscores are another matter.
const OF_NAMES: u8 = 1;
/// The same of a tag's value.
const OF_TAGS: u8 = 2;

static CLASSES: [u8; 256] = {
    let (mut classes, mut byte) = ([0; 256], 0);
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'.' => OF_NAMES | OF_TAGS,
            b'A'..=b'Z' => OF_NAMES,
            b':' | b'/' | b'-' => OF_TAGS,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// A service name: as a tag's value, of at most 100 bytes, `unnamed-service` if nothing is left.
///
/// `libdd-trace-normalization` takes leading digits away; the reference keeps them.
pub(super) fn service(text: Text<'_>) -> Text<'_> {
    service_or_language(text, b"")
}

/// The same, with the language, if it is known, in the name of a service of which nothing is left.
pub(super) fn service_or_language<'a>(text: Text<'a>, language: &[u8]) -> Text<'a> {
    let service = tag_value(shortened(text, MAX_NAME_BYTES));
    match (service.is_empty(), language) {
        (false, _) => service,
        (true, b"") => Cow::Borrowed(b"unnamed-service"),
        (true, language) => Cow::Owned([b"unnamed-", language, b"-service"].concat()),
    }
}

/// The text, cut to a length between characters.
pub(super) fn shortened(text: Text<'_>, limit: usize) -> Text<'_> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(truncated(text, limit)),
        Cow::Owned(mut text) => {
            let length = truncated(&text, limit).len();
            text.truncate(length);
            Cow::Owned(text)
        }
    }
}

/// An operation name: letters, digits, `.` and `_`, at most 100 bytes, `unnamed_operation` if nothing is left.
///
/// `libdd-trace-normalization` keeps slashes; the reference makes underscores of them.
pub(super) fn name(text: Text<'_>) -> Text<'_> {
    let is_normal = |text: &[u8]| {
        text.len() <= MAX_NAME_BYTES
            && text.first().is_some_and(u8::is_ascii_alphabetic)
            && text.iter().all(|byte| CLASSES[usize::from(*byte)] & OF_NAMES != 0)
    };
    if is_normal(&text) {
        return text;
    }
    let text = truncated(&text, MAX_NAME_BYTES);
    let start = text.iter().position(u8::is_ascii_alphabetic).unwrap_or(text.len());
    let text = &text[start..];
    // One that is as Datadog's metrics have it is kept, also with an underscore right after a point.
    let kept = is_metric_name(text).then(|| text.to_vec());
    let mut out = kept.unwrap_or_else(|| {
        let mut out = Vec::with_capacity(text.len());
        for byte in text.iter().copied() {
            match (byte, out.last().copied()) {
                (b'.', Some(b'_')) => {
                    out.pop();
                    out.push(b'.');
                }
                (b'.', _) => out.push(b'.'),
                _ if byte.is_ascii_alphanumeric() => out.push(byte),
                (_, Some(b'_' | b'.')) => {}
                _ => out.push(b'_'),
            }
        }
        out
    });
    if out.last() == Some(&b'_') {
        out.pop();
    }
    if out.is_empty() { Cow::Borrowed(b"unnamed_operation") } else { Cow::Owned(out) }
}

/// Letters, digits, points, and underscores, of which none stands before a point or another one (agent, `normMetricNameParse`).
fn is_metric_name(text: &[u8]) -> bool {
    text.windows(2).all(|pair| !matches!(pair, [b'_', b'_' | b'.']))
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte))
}

/// A tag's value: lower-case, at most 200 characters, anything odd as `_`.
pub(super) fn tag_value(text: Text<'_>) -> Text<'_> {
    if is_normal_tag(&text) { text } else { normalized_tag(text, false) }
}

/// A tag: as a value, but it begins with a letter or a colon.
pub(super) fn tag(text: Text<'_>) -> Text<'_> {
    let begins_well = text.first().is_none_or(|byte| byte.is_ascii_lowercase() || *byte == b':');
    if begins_well && is_normal_tag(&text) { text } else { normalized_tag(text, true) }
}

fn normalized_tag(text: Text<'_>, without_beginning: bool) -> Text<'_> {
    let (mut out, mut chars, mut bytes, mut gap) = (String::new(), 0, 0, false);
    for char in to_string(text).chars() {
        bytes += char.len_utf8();
        let category = get_general_category(char);
        let lower = match char.to_lowercase().next() {
            Some(lower)
                if category == Category::UppercaseLetter && lower.len_utf8() == char.len_utf8() =>
            {
                lower
            }
            _ => char,
        };
        let is_letter = matches!(
            category,
            Category::UppercaseLetter
                | Category::LowercaseLetter
                | Category::TitlecaseLetter
                | Category::ModifierLetter
                | Category::OtherLetter
        );
        let is_beginning = without_beginning && chars == 0 && !is_letter && char != ':';
        chars += usize::from(!is_beginning);
        if is_beginning {
            // Passed over.
        } else if is_letter
            || category == Category::DecimalNumber
            || matches!(lower, ':' | '.' | '/' | '-')
        {
            if std::mem::take(&mut gap) {
                out.push('_');
            }
            out.push(lower);
        } else {
            gap = true;
        }
        if bytes >= 2 * MAX_TAG_CHARS || chars >= MAX_TAG_CHARS {
            break;
        }
    }
    Cow::Owned(out.into_bytes())
}

/// The longest beginning of the text, at most `limit` bytes, that does not end within a character.
pub(super) fn truncated(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

/// Returns the text, cut between characters with three points behind where it is longer than `limit`.
#[inline]
pub(super) fn cut(text: Text<'_>, limit: usize) -> Text<'_> {
    if text.len() <= limit {
        return text;
    }
    Cow::Owned([truncated(&text, limit), b"..."].concat())
}

/// Returns whether the normalization of tags would leave the text as it is.
fn is_normal_tag(text: &[u8]) -> bool {
    let fits = text.len() <= MAX_TAG_CHARS;
    let valid = |byte: u8| CLASSES[usize::from(byte)] & OF_TAGS != 0;
    fits && text.iter().enumerate().all(|(index, byte)| {
        valid(*byte) || *byte == b'_' && text.get(index + 1).is_some_and(|next| valid(*next))
    })
}

fn to_string(text: Text<'_>) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{name, service, service_or_language, tag, tag_value, truncated};

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn services_names_and_tag_values_follow_the_agents_rules() {
        assert_eq!(text(&service(b"checkout-1.eu/x:y_z".into())), "checkout-1.eu/x:y_z");
        assert_eq!(text(&service(b"My Service!!".into())), "my_service");
        assert_eq!(text(&service(b"123".into())), "123");
        assert_eq!(text(&service(vec![b'a'; 150].into())), "a".repeat(100));
        assert_eq!(text(&name(b"http.server.request".into())), "http.server.request");
        assert_eq!(text(&name(b"Internal".into())), "Internal");
        assert_eq!(text(&name(b"GET /x y!".into())), "GET_x_y");
        assert_eq!(text(&name(b"".into())), "unnamed_operation");
        assert_eq!(text(&name(b"/f._x.y_".into())), "f._x.y");
        assert_eq!(text(&name(b"f._x y".into())), "f.x_y");
        assert_eq!(text(&name(b"E/s._3Sf._Y".into())), "E_s.3Sf.Y");
        assert_eq!(text(&tag_value(b"2024-prod".into())), "2024-prod");
        assert_eq!(text(&tag_value(b"Prod  EU__1_".into())), "prod_eu_1");
        assert_eq!(text(&tag_value("ÜBER\u{ff}".as_bytes().into())), "überÿ");
        assert_eq!(text(&tag_value(vec![b'A'; 300].into())), "a".repeat(200));
        assert_eq!(text(&tag_value(b"".into())), "");
        assert_eq!(text(&tag(b"9-_.Prod EU".into())), "prod_eu");
        assert_eq!(text(&tag(b":1".into())), ":1");
        assert_eq!(text(&tag(b"99".into())), "");
        assert_eq!(text(&service_or_language(b"!".into(), b"go")), "unnamed-go-service");
    }

    #[test]
    fn a_service_without_a_name_gets_one() {
        assert_eq!(text(&service(b"$$$".into())), "unnamed-service");
        assert_eq!(text(&service(b"".into())), "unnamed-service");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(truncated("aé".as_bytes(), 2), b"a");
        assert_eq!(truncated("aé".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(truncated(b"\x80\x80\x80", 2), b"");
    }
}
