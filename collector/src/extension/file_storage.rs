//! Keeps the queues of exporters on disk: a directory with one journal for each of them.
//!
//! The extension is contrib's by name and settings; how it stores is its own, so that one's files mean nothing to the other.

pub(crate) mod config;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub(crate) use config::Config;

use crate::journal::{Journal, OpenError, Options, Recovery};

/// Opens the journal of an exporter. Blocks.
pub(crate) fn open(config: &Config, exporter: &str) -> Result<(Journal, Recovery), OpenError> {
    prepare(config)?;
    let options = Options {
        max_bytes: config.max_size_mib << 20,
        fsync: config.fsync,
        lock_timeout: config.timeout,
    };
    Journal::open(&directory(config, exporter), options)
}

/// Makes the directory, if that is wanted.
fn prepare(config: &Config) -> Result<(), OpenError> {
    let path = &config.directory;
    let failed = |what, error, hint| OpenError { what, path: path.clone(), error, hint };
    if config.create_directory {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(config.permissions());
        return builder.create(path).map_err(|error| failed("make", error, ""));
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(failed("use", std::io::ErrorKind::NotADirectory.into(), "")),
        Err(error) => Err(failed("use", error, "; make it, or set `create_directory: true`")),
    }
}

/// Returns the directory of an exporter's journal. Characters that may mean something in a path are written by their number.
fn directory(config: &Config, exporter: &str) -> PathBuf {
    let safe = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => char.to_string(),
        _ => format!("~{:04X}", u32::from(char)),
    };
    let name: String = exporter.chars().map(safe).collect();
    Path::new(&config.directory).join(format!("exporter_{name}_traces"))
}

#[cfg(test)]
mod tests {
    use super::{Config, directory, open};

    #[test]
    fn each_exporter_has_a_directory_of_its_own_below_that_of_the_storage() {
        let config = Config { directory: "/d".into(), ..Config::default() };
        let name = |exporter| directory(&config, exporter).to_str().unwrap().to_owned();
        assert_eq!(name("datadog"), "/d/exporter_datadog_traces");
        assert_eq!(name("otlp/../x"), "/d/exporter_otlp~002F..~002Fx_traces");
    }

    #[test]
    fn a_directory_that_is_missing_is_made_only_if_that_is_wanted() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        let config = Config { directory: directory.clone(), ..Config::default() };
        let error = open(&config, "datadog").unwrap_err().to_string();
        let end =
            "No such file or directory (os error 2); make it, or set `create_directory: true`";
        assert_eq!(error, format!("cannot use `{}`: {end}", directory.display()));
        let config = Config { create_directory: true, ..config };
        open(&config, "datadog").unwrap();
        let file = Config { directory: "/proc/self/status".into(), ..Config::default() };
        assert!(open(&file, "datadog").unwrap_err().to_string().contains("not a directory"));
    }
}
