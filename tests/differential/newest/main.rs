//! The differential test against the newest OpenTelemetry Collector: generated configs are read by both, generated requests are sent to both, traces are sampled and spans changed by both. What differs must be meant, with its reason, in `meant.yaml`; what is listed there and does not come up fails too.
//!
//! It needs the Collector, so it is no part of `cargo test`:
//!
//! ```text
//! NEWEST_COLLECTOR=$(tests/differential/build-reference --newest) cargo test -p harness --test newest
//! ```
//!
//! `NEWEST_SEED`, `NEWEST_CASES` (configs) and `NEWEST_REQUESTS` make others than the usual cases; the list is held to be whole for the usual ones only.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

mod attributes;
mod configs;
mod generate;
mod meant;
mod probabilistic;
mod program;
mod requests;
mod running;
mod sampling;
mod settings;
mod spans;

use std::path::PathBuf;

/// The usual cases.
const SEED: u64 = 1;
const CASES: usize = 600;

/// The newest Collector's program.
fn newest() -> PathBuf {
    let path = std::env::var_os("NEWEST_COLLECTOR");
    let path = path.expect(
        "NEWEST_COLLECTOR is not set: `tests/differential/build-reference --newest` prints it",
    );
    let path = PathBuf::from(path);
    assert!(path.is_file(), "NEWEST_COLLECTOR: there is no {}", path.display());
    path
}

/// A number that may be asked for, and whether it is the usual one.
fn asked<T: std::str::FromStr + PartialEq>(name: &str, usual: T) -> (T, bool) {
    match std::env::var(name) {
        Ok(text) => {
            let number =
                text.parse().ok().unwrap_or_else(|| panic!("{name}: `{text}` is no number"));
            let is_usual = number == usual;
            (number, is_usual)
        }
        Err(_) => (usual, true),
    }
}
