//! How long a sender of gRPC waits for its answer: its header `grpc-timeout`.

use std::time::Duration;

use http::HeaderMap;

/// The header in which a client says how long it waits.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The most digits that the gRPC specification allows.
const MAX_DIGITS: usize = 8;

/// Reads how long the sender of a request waits, if it says so.
///
/// # Errors
///
/// If the header is not as the gRPC specification has it: up to eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    parse(value.as_bytes()).map(Some).ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        format!("`{GRPC_TIMEOUT}: {value}` is no time: write up to {MAX_DIGITS} digits and a unit of H, M, S, m, u, n, such as 10S")
    })
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn a_time_has_up_to_eight_digits_and_a_unit() {
        assert_eq!(parse(b"10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse(b"0m"), Some(Duration::ZERO));
        assert_eq!(parse(b"99999999H"), Some(Duration::from_secs(359_999_996_400)));
        assert_eq!(parse(b"2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse(b"1500u"), Some(Duration::from_micros(1500)));
        assert_eq!(parse(b"7n"), Some(Duration::from_nanos(7)));
        for wrong in [&b""[..], b"S", b"10", b"10s", b"-1S", b"+1S", b"1.5S", b"123456789S"] {
            assert_eq!(parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }
}
