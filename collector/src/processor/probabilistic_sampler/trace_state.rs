//! The `tracestate` of a span: what OpenTelemetry's samplers put there, and the rest as it came.

use super::threshold;

/// Limits of W3C's and OpenTelemetry's specifications, as the reference holds to them.
const MAX_LENGTH: usize = 1024;
const MAX_MEMBERS: usize = 31;
const MAX_KEY: usize = 256;
const MAX_TENANT: usize = 241;
const MAX_SYSTEM: usize = 14;
const MAX_VALUE: usize = 256;
/// The key of OpenTelemetry's member, and how long its value may be.
const OPEN_TELEMETRY: &[u8] = b"ot";
const MAX_OPEN_TELEMETRY: usize = 256;

/// A `tracestate` in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TraceState<'a> {
    randomness: Option<(u64, String)>,
    threshold: Option<(u64, String)>,
    /// Other parts of OpenTelemetry's member.
    parts: Vec<(&'a [u8], &'a [u8])>,
    /// Other members.
    members: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> TraceState<'a> {
    /// Reads a `tracestate`; returns as much of it as could be read, and whether that is all.
    pub(super) fn read(text: &'a [u8]) -> (Self, bool) {
        let (mut state, mut is_valid) = (Self::default(), true);
        if text.len() > MAX_LENGTH || !split(text, b',').all(is_member) {
            return (state, false);
        }
        for (index, member) in split(text, b',').enumerate() {
            if index >= MAX_MEMBERS {
                return (state, false);
            }
            let member = trim(member);
            let Some((key, value)) = split_at(member, b'=') else { continue };
            if key.len() > MAX_KEY
                || split_at(key, b'@').is_some_and(|(tenant, system)| {
                    tenant.len() > MAX_TENANT || system.len() > MAX_SYSTEM
                })
            {
                is_valid = false;
            } else if key == OPEN_TELEMETRY {
                is_valid &= state.read_open_telemetry(value);
            } else {
                state.members.push((key, value));
            }
        }
        (state, is_valid)
    }

    fn read_open_telemetry(&mut self, text: &'a [u8]) -> bool {
        (self.randomness, self.threshold, self.parts) = (None, None, Vec::new());
        let is_whole =
            !text.is_empty() && text.last() != Some(&b';') && text.len() <= MAX_OPEN_TELEMETRY;
        if !is_whole || !split(text, b';').all(is_part) {
            return false;
        }
        let mut is_valid = true;
        for (key, value) in split(text, b';').filter_map(|part| split_at(part, b':')) {
            let own = || String::from_utf8_lossy(value).into_owned();
            match key {
                b"rv" => {
                    self.randomness =
                        threshold::read_randomness(value).map(|number| (number, own()));
                    is_valid &= self.randomness.is_some();
                }
                b"th" => {
                    self.threshold = threshold::read(value).map(|number| (number, own()));
                    is_valid &= self.threshold.is_some();
                }
                _ => self.parts.push((key, value)),
            }
        }
        is_valid
    }

    pub(super) fn randomness(&self) -> Option<u64> {
        self.randomness.as_ref().map(|(number, _)| *number)
    }

    pub(super) fn threshold(&self) -> Option<u64> {
        self.threshold.as_ref().map(|(number, _)| *number)
    }

    pub(super) fn set_randomness(&mut self, randomness: u64) {
        self.randomness = Some((randomness, format!("{randomness:014x}")));
    }

    pub(super) fn clear_threshold(&mut self) {
        self.threshold = None;
    }

    /// Notes that a span was sampled with a threshold; one that is there and higher stays, since nothing makes up for what was dropped.
    pub(super) fn note_threshold(&mut self, sampled: u64) {
        if self.threshold().is_none_or(|known| known <= sampled) {
            self.threshold = Some((sampled, threshold::text(sampled)));
        }
    }

    /// The whole as text.
    pub(super) fn write(&self) -> Vec<u8> {
        let of = |key: &str, value: &Option<(u64, String)>| {
            value.as_ref().map(|(_, text)| format!("{key}:{text}").into_bytes())
        };
        let parts = self.parts.iter().map(|(key, value)| [key, &b":"[..], value].concat());
        let own: Vec<_> = of("rv", &self.randomness)
            .into_iter()
            .chain(of("th", &self.threshold))
            .chain(parts)
            .collect();
        let own = (!own.is_empty()).then(|| [b"ot=", &own.join(&b';')[..]].concat());
        let members = self.members.iter().map(|(key, value)| [key, &b"="[..], value].concat());
        own.into_iter().chain(members).collect::<Vec<_>>().join(&b',')
    }
}

/// Text between separators; nothing behind the last one.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(&[separator]).unwrap_or(text);
    let parts =
        if text.is_empty() { None } else { Some(text.split(move |byte| *byte == separator)) };
    parts.into_iter().flatten()
}

fn split_at(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..place], &text[place + 1..]))
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// Returns whether a member is empty, or a key and a value of W3C's.
fn is_member(member: &[u8]) -> bool {
    let member = trim(member);
    if member.is_empty() {
        return true;
    }
    let Some((key, value)) = split_at(member, b'=') else { return false };
    let is_key = match split_at(key, b'@') {
        Some((tenant, system)) => {
            tenant.first().is_some_and(|first| is_small(*first) || first.is_ascii_digit())
                && system.first().is_some_and(|first| is_small(*first))
                && tenant.iter().chain(system).all(|byte| is_of_key(*byte))
        }
        None => {
            key.first().is_some_and(|first| is_small(*first))
                && key.iter().all(|byte| is_of_key(*byte))
        }
    };
    let is_of_value = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b',' && byte != b'=';
    is_key
        && (1..=MAX_VALUE).contains(&value.len())
        && value.last() != Some(&b' ')
        && value.iter().all(|byte| is_of_value(*byte))
}

fn is_small(byte: u8) -> bool {
    byte.is_ascii_lowercase()
}

fn is_of_key(byte: u8) -> bool {
    is_small(byte) || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
}

/// Returns whether a part of OpenTelemetry's member is a key and a value.
fn is_part(part: &[u8]) -> bool {
    split_at(part, b':').is_some_and(|(key, value)| {
        key.first().is_some_and(|first| is_small(*first))
            && key.iter().all(|byte| is_small(*byte) || byte.is_ascii_digit())
            && value
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::TraceState;
    use super::threshold::ALWAYS;

    #[test]
    fn what_is_not_of_sampling_stays_as_it_came() {
        for (text, written) in [
            ("", ""),
            ("a=b", "a=b"),
            (
                " a=b , ot=th:c;x:y;rv:00000000000001,t@s=1 2",
                "ot=rv:00000000000001;th:c;x:y,a=b,t@s=1 2",
            ),
            ("ot=th:C", "ot=th:C"),
            ("a=b,,", "a=b"),
        ] {
            let (state, is_valid) = TraceState::read(text.as_bytes());
            assert!(is_valid, "{text}");
            assert_eq!(String::from_utf8_lossy(&state.write()), written);
        }
    }

    #[test]
    fn what_is_not_valid_is_reported() {
        let many: String = (0..32).map(|index| format!("k{index}=v,")).collect();
        let long = format!("a={}", "x".repeat(257));
        for text in [
            "a", "A=b", "a=", "=b", "a=b=c", "ot=th:", "ot=th:x", "ot=rv:1", "ot=a", "ot=a:b;",
            "ot=;a:b", "@a=b", "a@=b", &many, &long,
        ] {
            assert!(!TraceState::read(text.as_bytes()).1, "{text}");
        }
        let (state, is_valid) = TraceState::read(b"a=b,ot=th:x;rv:00000000000001");
        assert!(!is_valid);
        assert_eq!(state.write(), b"ot=rv:00000000000001,a=b");
    }

    #[test]
    fn a_threshold_only_rises() {
        let noted = |text: &str, threshold| {
            let (mut state, _) = TraceState::read(text.as_bytes());
            state.note_threshold(threshold);
            String::from_utf8(state.write()).unwrap()
        };
        assert_eq!(noted("", ALWAYS), "ot=th:0");
        assert_eq!(noted("ot=th:8", 0xc << 52), "ot=th:c");
        assert_eq!(noted("ot=th:c", 0x8 << 52), "ot=th:c");
    }
}
