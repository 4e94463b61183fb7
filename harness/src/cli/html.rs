//! `--html`: the report of a run as one file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use harness::{
    compare::Comparison,
    report::html::{self, Run},
    saved::{self, SavedError, SavedSystem},
    verdict::Summary,
};
use tempfile::TempDir;

/// Options of the report: where it is written.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Writes a report for people to this file: one HTML page with all traces, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// Checks that the report can be written, so that this is found out now, and not after the run. What is in the file stays until
    /// the new report is there.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(path) = &self.html else { return Ok(()) };
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.map(drop).with_context(|| {
            format!(
                "--html: the report {} cannot be written; name a file in a folder that is there and may be written to",
                path.display()
            )
        })
    }

    /// Refuses the report where a command has none to write.
    pub(super) fn refuse(&self, instead: &str) -> anyhow::Result<()> {
        match &self.html {
            None => Ok(()),
            Some(_) => bail!("--html: {instead}"),
        }
    }

    /// Creates the folder that a run is saved in for its report, where one is asked for and the run is not saved anyway.
    pub(super) fn save_folder(
        &self,
        save: &mut Option<PathBuf>,
    ) -> anyhow::Result<Option<TempDir>> {
        if self.html.is_none() || save.is_some() {
            return Ok(None);
        }
        let folder = tempfile::tempdir().context("--html: no folder can be created for the run")?;
        *save = Some(folder.path().to_owned());
        Ok(Some(folder))
    }

    /// Writes the report of a run that was saved in `dir`.
    pub(super) fn write_saved(
        &self,
        (summary, environment): (&Summary, &str),
        dir: Option<&Path>,
    ) -> anyhow::Result<()> {
        let (Some(_), Some(dir)) = (&self.html, dir) else { return Ok(()) };
        let systems = match saved::read(dir) {
            // No system came up, so that none was saved.
            Err(SavedError::Empty { .. }) => Vec::new(),
            read => read.context("--html: the run that was saved cannot be read")?,
        };
        self.write(summary, environment, &systems)
    }

    /// Writes the report of two runs that were compared, where one is asked for.
    pub(super) fn write_comparison(&self, comparison: &Comparison) -> anyhow::Result<()> {
        let Some(path) = &self.html else { return Ok(()) };
        html::write_comparison(path, comparison)
            .with_context(|| format!("--html: the report {} cannot be written", path.display()))
    }

    /// Writes the report, where one is asked for.
    pub(super) fn write(
        &self,
        summary: &Summary,
        environment: &str,
        systems: &[SavedSystem],
    ) -> anyhow::Result<()> {
        let Some(path) = &self.html else { return Ok(()) };
        let left_out = html::write(path, Run { summary, environment, systems })
            .with_context(|| format!("--html: the report {} cannot be written", path.display()))?;
        if left_out > 0 {
            super::warn(&format!(
                "--html: {left_out} traces are listed in {} without their spans, which would be too many for one page",
                path.display()
            ));
        }
        Ok(())
    }
}
