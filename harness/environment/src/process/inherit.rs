//! Which environment variables of the caller a child gets.

use std::ffi::{OsStr, OsString};

/// The variables that a child inherits where the caller has them; all others are left out, so that a stray
/// `OTEL_*`, `DD_*` or `HTTP_PROXY` of the caller changes nothing. What a workload needs beyond these stands in its
/// `env`.
pub const INHERITED: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
];

/// Those of `variables` that a child inherits.
pub(super) fn inherited(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let known = |name: &OsStr| INHERITED.iter().any(|inherited| name == *inherited);
    variables.into_iter().filter(|(name, _)| known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_inherited_variable() {
        let document = include_str!("../../../../docs/system-file.md");
        for name in INHERITED {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}
