//! Thresholds of consistent sampling: a span is sampled if its randomness, of 56 bits, is not below its threshold.

/// The threshold of what is always sampled.
pub(super) const ALWAYS: u64 = 0;
/// The threshold of what is never sampled, which is above all randomness.
pub(super) const NEVER: u64 = 1 << 56;
/// How many hexadecimal digits 56 bits have.
pub(super) const HEX_DIGITS: u32 = 14;
/// The smallest probability that has a threshold.
pub(super) const MIN_PROBABILITY: f64 = 1.0 / NEVER as f64;

/// The threshold for a probability, in so many digits or more where it is near to 0 or to 1; `None` if it has none.
pub(super) fn of_probability(probability: f64, digits: u32) -> Option<u64> {
    if !(MIN_PROBABILITY..=1.0).contains(&probability) {
        return None;
    }
    if probability == 1.0 {
        return Some(ALWAYS);
    }
    // Each leading zero, or `f`, in hexadecimal takes one more digit for the same relative error.
    let leading = |part: f64| u32::try_from(exponent(part) / -4).unwrap_or(0);
    let digits = digits + leading(probability).max(leading(1.0 - probability));
    let threshold = NEVER - (probability * NEVER as f64).round() as u64;
    let shift = 4 * (HEX_DIGITS - digits.min(HEX_DIGITS));
    if shift == 0 {
        return Some(threshold);
    }
    Some((threshold + (1 << (shift - 1))) >> shift << shift)
}

/// The probability of a threshold.
pub(super) fn probability(threshold: u64) -> f64 {
    (NEVER - threshold) as f64 / NEVER as f64
}

/// The exponent of a normal number as a half to one, times a power of two.
fn exponent(number: f64) -> i32 {
    ((number.to_bits() >> 52) & 0x7ff) as i32 - 1022
}

/// A threshold as `tracestate` has it: without zeros at its end.
pub(super) fn text(threshold: u64) -> String {
    match threshold {
        ALWAYS => "0".to_owned(),
        threshold => format!("{threshold:014x}").trim_end_matches('0').to_owned(),
    }
}

/// Reads a threshold.
pub(super) fn read(text: &[u8]) -> Option<u64> {
    let missing = (HEX_DIGITS as usize).checked_sub(text.len())?;
    Some(hex(text)? << (4 * missing))
}

/// Reads a randomness, which has all its digits.
pub(super) fn read_randomness(text: &[u8]) -> Option<u64> {
    if text.len() == HEX_DIGITS as usize { hex(text) } else { None }
}

fn hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{ALWAYS, HEX_DIGITS, MIN_PROBABILITY, of_probability, probability, read, text};

    #[test]
    fn a_probability_has_a_threshold_in_few_digits() {
        let threshold = |probability| of_probability(probability, 4).map(text).unwrap_or_default();
        assert_eq!(threshold(1.0), "0");
        assert_eq!(threshold(0.5), "8");
        assert_eq!(threshold(0.25), "c");
        assert_eq!(threshold(0.1), "e666");
        assert_eq!(threshold(1.0 / 3.0), "aaab");
        assert_eq!(threshold(0.01), "fd70a");
        assert_eq!(threshold(0.999), "004189");
        assert_eq!(of_probability(MIN_PROBABILITY, 4), Some((1 << 56) - 1));
        for none in [0.0, MIN_PROBABILITY / 2.0, 1.1, -1.0, f64::NAN] {
            assert_eq!(of_probability(none, 4), None, "{none}");
        }
        assert_eq!(of_probability(0.5, HEX_DIGITS), of_probability(0.5, 1));
    }

    #[test]
    fn thresholds_are_read_as_they_are_written() {
        for threshold in [ALWAYS, 1, 1 << 55, (1 << 56) - 1, 0xabc << 44] {
            assert_eq!(read(text(threshold).as_bytes()), Some(threshold));
        }
        assert_eq!(read(b"C").map(probability), Some(0.25));
        for wrong in [&b""[..], b"x", b"+1", b"123456789012345"] {
            assert_eq!(read(wrong), None);
        }
    }
}
