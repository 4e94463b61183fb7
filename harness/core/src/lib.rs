//! Shared ground of all crates of the harness: traces, places in the files that people write, secrets, and its HTTP client.

pub mod http;
pub mod secret;
pub mod source;
pub mod trace;
pub mod wire;

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
