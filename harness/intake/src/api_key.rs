//! Datadog's API key: a secret that never shows.

use std::{fmt, str::FromStr};

use harness_core::secret::Secret;

/// A Datadog API key, known to fit a header. Prints as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey(Secret);

/// Error for a text that is not an API key. Does not repeat the text, which may be a secret with a slip in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseApiKeyError {
    /// Nothing in it.
    #[error("the API key is empty: give a non-empty one, or none at all to accept any")]
    Empty,
    /// A character that an HTTP header cannot carry.
    #[error("the API key holds characters that a header cannot carry: use visible ASCII only")]
    NotVisibleAscii,
}

impl ApiKey {
    /// Returns the key in plain text.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl FromStr for ApiKey {
    type Err = ParseApiKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseApiKeyError::Empty);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ParseApiKeyError::NotVisibleAscii);
        }
        Ok(Self(Secret::new(text)))
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_shows_itself_in_no_output() {
        let key: ApiKey = "0123abcd".parse().unwrap();
        assert_eq!(format!("{key} {key:?}"), "*** ApiKey(***)");
        assert_eq!(key.reveal(), "0123abcd");
    }

    #[test]
    fn an_api_key_must_fit_a_header_and_its_error_does_not_repeat_it() {
        assert_eq!("".parse::<ApiKey>(), Err(ParseApiKeyError::Empty));
        let error = "sec\nret".parse::<ApiKey>().unwrap_err();
        assert!(!error.to_string().contains("sec"));
    }
}
