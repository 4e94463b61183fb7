//! Programs of this machine: whether one can be started.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::Path};

/// Remedy for a path at which there is no program.
pub(crate) const BUILD_OR_CORRECT: &str = "build it, or correct its path";

/// A program that cannot be started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The problem in words.
    pub message: String,
    /// The way to mend it.
    pub remedy: String,
}

/// Returns what is wrong with a program that cannot be started here; a bare name is looked up in `search`, in the
/// form of `PATH`.
pub fn missing(program: &str, search: Option<&OsStr>) -> Option<Missing> {
    if program.is_empty() {
        return None;
    }
    if let Some(words) = command_line(program, search) {
        return Some(Missing {
            message: format!("there is no program `{program}`, with spaces in its name"),
            remedy: format!("write each word as an item: `[{}]`", words.join(", ")),
        });
    }
    if program.contains('/') {
        let path = Path::new(program);
        let (what, remedy) = match () {
            () if is_program(path) => return None,
            () if path.is_dir() => ("is a directory", BUILD_OR_CORRECT),
            () if path.exists() => ("may not be executed", "make it executable (`chmod +x`)"),
            () => ("does not exist", BUILD_OR_CORRECT),
        };
        let message = format!("the program `{program}` {what}");
        return Some(Missing { message, remedy: remedy.to_owned() });
    }
    (!is_in(search, program)).then(|| Missing {
        message: format!("the program `{program}` is not in PATH"),
        remedy: "install it, or write its path with a `/`".to_owned(),
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Returns whether a bare name is found in `search`.
fn is_in(search: Option<&OsStr>, name: &str) -> bool {
    let mut dirs = search.into_iter().flat_map(std::env::split_paths);
    dirs.any(|dir| is_program(&dir.join(name)))
}

/// The words of what was written as the name of a program and is a whole command line: one with spaces in it that is no program itself,
/// and whose first part is one, or has no `/`.
fn command_line<'a>(program: &'a str, search: Option<&OsStr>) -> Option<Vec<&'a str>> {
    if is_program(Path::new(program)) || is_in(search, program) {
        return None;
    }
    let spaces = program.match_indices(' ').map(|(at, _)| at);
    let (first, rest) = spaces.map(|at| program.split_at(at)).find_map(|(first, rest)| {
        // A path in a later word has made one of the first as well.
        let name = first.rsplit('/').next().filter(|name| is_in(search, name));
        let first = match first.contains('/') && !is_program(Path::new(first)) {
            true => name?,
            false => first,
        };
        (!first.is_empty()).then_some((first, rest))
    })?;
    Some([first].into_iter().chain(rest.split_whitespace()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_is_written_as_one_word_is_split() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["npm", "my app"] {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = |program: &str| missing(program, Some(dir.path().as_os_str()));
        let remedy = |program: &str| found(program).map(|missing| missing.remedy);
        let path = dir.path().display();
        assert_eq!(
            remedy("npm run  start").unwrap(),
            "write each word as an item: `[npm, run, start]`"
        );
        assert_eq!(remedy("nowhere x/y").unwrap(), "write each word as an item: `[nowhere, x/y]`");
        assert_eq!(
            remedy(&format!("{path}/npm x")).unwrap(),
            format!("write each word as an item: `[{path}/npm, x]`")
        );
        // As it is where the path was made one from the file's folder.
        assert_eq!(remedy("/none/npm x/y").unwrap(), "write each word as an item: `[npm, x/y]`");
        assert_eq!((found("my app"), found(&format!("{path}/my app"))), (None, None));
        assert_eq!(remedy("/none/my thing").unwrap(), BUILD_OR_CORRECT);
    }
}
