//! Programs of this machine: whether one can be started.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::Path};

/// Remedy for a path at which there is no program.
pub const BUILD_OR_CORRECT: &str = "build it, or correct its path";

/// A program that cannot be started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The problem in words.
    pub message: String,
    /// The way to mend it.
    pub remedy: &'static str,
}

/// Returns what is wrong with a program that cannot be started here; a bare name is looked up in `search`, in the
/// form of `PATH`.
pub fn missing(program: &str, search: Option<&OsStr>) -> Option<Missing> {
    let is_program = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.is_empty() {
        return None;
    }
    if program.contains('/') {
        let path = Path::new(program);
        let (what, remedy) = match () {
            () if is_program(path) => return None,
            () if path.is_dir() => ("is a directory", BUILD_OR_CORRECT),
            () if path.exists() => ("may not be executed", "make it executable (`chmod +x`)"),
            () => ("does not exist", BUILD_OR_CORRECT),
        };
        return Some(Missing { message: format!("the program `{program}` {what}"), remedy });
    }
    let is_found = search.is_some_and(|search| {
        std::env::split_paths(search).any(|dir| is_program(&dir.join(program)))
    });
    (!is_found).then(|| Missing {
        message: format!("the program `{program}` is not in PATH"),
        remedy: "install it, or write its path with a `/`",
    })
}
