//! Durations as the Collector writes them: `5s`, `1m30s`, `250ms`, `1.5h`.

use std::fmt;
use std::time::Duration;

use serde::{Deserializer, Serializer, de};

/// Reads a duration in Go's notation.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        seconds += number * scale;
        rest = &rest[end..];
    }
    if text.is_empty() {
        return None;
    }
    // Nanoseconds, since fractions such as 0.1 have no exact form.
    let nanos = (seconds * 1e9).round();
    (nanos < u64::MAX as f64).then(|| Duration::from_nanos(nanos as u64))
}

/// Writes a duration as Go does: `1m30s`, `250ms`, `0s`.
fn write(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    // Digits behind the point, without zeros at their end.
    let decimal = |value: u128, unit: u128| -> String {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = duration.as_secs() / 60;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// For `#[serde(with = "duration")]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write(*duration))
}

/// For `#[serde(with = "duration")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(Text)
}

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a duration such as `5s` or `1m30s`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| {
            E::custom(format_args!("`{text}` is not a duration; write for example `5s` or `1m30s`"))
        })
    }

    fn visit_unit<E: de::Error>(self) -> Result<Duration, E> {
        Err(E::custom(
            "expected a duration such as `5s`, found nothing (null); the Collector would silently use zero: leave the key out for the default",
        ))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
        match number {
            0 => Ok(Duration::ZERO),
            number => Err(E::custom(format_args!(
                "a duration has a unit; write for example `{number}s` (the Collector would silently read it as {number} ns)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, write};
    use std::time::Duration;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for text in [
            "0s",
            "1ns",
            "1.5µs",
            "250ms",
            "1.000001s",
            "59.9s",
            "1m30s",
            "2m0s",
            "1h0m0s",
            "49h1m0.5s",
        ] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(parse("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("0.1s"), Some(Duration::from_millis(100)));
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "s", "5 s", "-1s", "5x", "1.2.3s", "99999999999999h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
