//! A directory for the disk queue, on a disk that may be small.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// How large the small disk is.
const SMALL_MIB: u64 = 64;

/// A directory, and a small disk behind it that is to be unmounted.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
    is_mounted: bool,
}

impl Disk {
    /// A directory on the usual disk, or on one of 64 MiB; the latter needs the right to mount one.
    pub(crate) fn new(is_small: bool) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        if is_small {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={SMALL_MIB}m"), "tmpfs"]);
            let output = mount.arg(directory.path()).output().context("cannot run `mount`")?;
            anyhow::ensure!(
                output.status.success(),
                "cannot mount a small disk, which needs root; leave the fault out with `--only`: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Self { directory, is_mounted: is_small })
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(self.directory.path()).join("queue")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // What cannot be unmounted stays until the machine ends, which is said by `umount` itself.
            let _ = Command::new("umount").arg(self.directory.path()).status();
        }
    }
}
