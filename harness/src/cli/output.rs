//! Where the events of a run go: stdout, and a JUnit report.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use anyhow::Context;
use clap::ValueEnum;
use harness::{
    event::Event,
    report::{Reporter, json::JsonLines, junit::Junit, text::Text},
};

/// What is written, and where.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Writes a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// What is written to stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One event a line.
    Json,
}

/// All reports of one run.
pub(super) struct Output {
    reports: Vec<Report>,
    first_error: anyhow::Result<()>,
}

struct Report {
    /// For messages.
    name: String,
    reporter: Box<dyn Reporter + Send>,
}

impl Args {
    /// Whether stdout is for people.
    pub(super) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Text)
    }

    /// The reports that are written to files once it is all over.
    pub(super) fn open_files(&self) -> anyhow::Result<Output> {
        let mut reports = Vec::new();
        if let Some(path) = &self.junit {
            let name = format!("the JUnit report {}", path.display());
            std::fs::File::create(path).with_context(|| format!("{name} cannot be written"))?;
            reports.push(Report { name, reporter: Box::new(Junit::new(path.clone())) });
        }
        Ok(Output { reports, first_error: Ok(()) })
    }

    /// Makes the reports ready; a file that cannot be written is found out now, not after the run.
    pub(super) fn open(&self, verbose: bool) -> anyhow::Result<Output> {
        let stdout: Box<dyn Reporter + Send> = match self.format {
            Format::Text => {
                Box::new(Text::new(anstream::stdout(), io::stderr().is_terminal(), verbose))
            }
            Format::Json => Box::new(JsonLines(io::stdout())),
        };
        let mut output = self.open_files()?;
        let report = Report { name: "the report on stdout".to_owned(), reporter: stdout };
        output.reports.insert(0, report);
        Ok(output)
    }
}

impl Output {
    /// Tells all reports. One that cannot be written is told nothing more; the run goes on without it.
    pub(super) fn observe(&mut self, event: &Event) {
        self.reports.retain_mut(|report| {
            let Err(error) = report.reporter.observe(event) else { return true };
            // The reader went away, as `| head` does: it has read what it wanted.
            if error.kind() != io::ErrorKind::BrokenPipe && self.first_error.is_ok() {
                self.first_error =
                    Err(error).with_context(|| format!("{} cannot be written", report.name));
            }
            false
        });
    }

    /// The first error of any report.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.first_error
    }
}
