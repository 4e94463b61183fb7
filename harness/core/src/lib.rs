//! Shared ground of all crates of the harness: traces, places in the files that people write, secrets, and its HTTP client.

mod exit;
pub mod family;
pub mod http;
pub mod secret;
pub mod service_map;
pub mod source;
pub mod trace;
pub mod wire;

pub use self::exit::fail;

/// Renders an error and its causes in one line, since many libraries keep the informative part in the source.
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the system")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("x.yaml: cannot be read: {source}")]
    struct Inner {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_an_error_states_itself_is_not_repeated() {
        let source = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            chain_of(&Outer(Inner { source })),
            "the system: x.yaml: cannot be read: No space left on device (os error 28)"
        );
    }
}
