//! Settings of the storage on disk, in the words of contrib's `file_storage`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("files are removed when nothing in them is needed; remove the key", &["compaction"]),
    (
        "what is damaged is left out and counted, and the rest is kept; remove the key",
        &["recreate"],
    ),
]);

/// Directory in which exporters with `sending_queue.storage` keep spans until they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The directory. Default `/var/lib/otelcol/file_storage`.
    pub(crate) directory: PathBuf,
    /// Whether the directory is made if it is not there. Default `false`.
    pub(crate) create_directory: bool,
    /// Mode of the directory when it is created, in octal. Default `0750`.
    pub(crate) directory_permissions: String,
    /// How long another collector that still has the directory open is waited for. Default `1s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    /// Whether the disk is waited for before a sender is answered, so that a loss of power loses nothing; without it, nothing is
    /// lost when the collector is killed. Default `false`.
    pub(crate) fsync: bool,
    /// How many MiB the files of one exporter may have; senders of more are held, as while the queue is full. Ours: contrib has
    /// no such bound. Default 1024.
    pub(crate) max_size_mib: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: "/var/lib/otelcol/file_storage".into(),
            create_directory: false,
            directory_permissions: "0750".into(),
            timeout: Duration::from_secs(1),
            fsync: false,
            max_size_mib: 1024,
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if config.directory.as_os_str().is_empty() {
            diagnostics.add(&["directory"], "must not be empty");
        }
        let mode = u32::from_str_radix(&config.directory_permissions, 8);
        if !mode.is_ok_and(|mode| mode <= 0o777) {
            let problem = "is not a file mode in octal, such as `0750`";
            diagnostics.add(&["directory_permissions"], problem);
        }
        if !(1..=1 << 20).contains(&config.max_size_mib) {
            diagnostics.add(&["max_size_mib"], "must be from 1 to 1048576");
        }
        Some(config)
    }

    /// The directory's permissions.
    pub(super) fn permissions(&self) -> u32 {
        u32::from_str_radix(&self.directory_permissions, 8).unwrap_or(0o750)
    }
}
