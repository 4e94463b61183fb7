//! Output of a run's events: stdout, and a JUnit report.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use anyhow::Context;
use clap::ValueEnum;
use harness::{
    event::Event,
    report::{
        Reporter,
        github::{Annotations, Log, without_commands},
        json::JsonLines,
        junit::Junit,
        text::Text,
    },
};

/// Options of the output: what is written, and where.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Writes a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Format of stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One event a line; `tracecheck schema --of report` prints its schema.
    Json,
    /// For people, and for GitHub Actions: annotations at the scenarios' files, and a summary of the step.
    Github,
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
    /// Returns whether stdout is for people.
    pub(super) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Text | Format::Github)
    }

    /// Returns whether it is for GitHub Actions.
    pub(super) fn is_for_github(&self) -> bool {
        matches!(self.format, Format::Github)
    }

    /// Prints a text for people beside the report, in a form that stdout may have.
    pub(super) fn print(&self, text: &str) -> anyhow::Result<()> {
        let printed = match self.format {
            Format::Github => super::print(&without_commands(text)),
            Format::Text | Format::Json => super::print(text),
        };
        printed.map(drop)
    }

    /// The reports that are written to files once it is all over.
    pub(super) fn open_files(&self) -> anyhow::Result<Output> {
        let mut reports = Vec::new();
        if let Some(path) = &self.junit {
            let name = format!("the JUnit report {}", path.display());
            std::fs::File::create(path).with_context(|| format!("{name} cannot be written"))?;
            reports.push(Report { name, reporter: Box::new(Junit::new(path.clone())) });
        }
        if let Format::Github = self.format {
            reports.push(github()?);
        }
        Ok(Output { reports, first_error: Ok(()) })
    }

    /// Makes the reports ready; a file that cannot be written is found out now, not after the run.
    pub(super) fn open(&self, verbose: bool) -> anyhow::Result<Output> {
        let mut output = self.open_stdout(verbose);
        output.reports.extend(self.open_files()?.reports);
        Ok(output)
    }

    /// The report on stdout alone.
    pub(super) fn open_stdout(&self, verbose: bool) -> Output {
        let reporter: Box<dyn Reporter + Send> = match self.format {
            Format::Text => {
                let text = Text::new(anstream::stdout(), io::stderr().is_terminal(), verbose);
                Box::new(text.within(super::width()))
            }
            Format::Json => Box::new(JsonLines(io::stdout())),
            Format::Github => Box::new(Log::new(io::stdout(), verbose)),
        };
        let report = Report { name: "the report on stdout".to_owned(), reporter };
        Output { reports: vec![report], first_error: Ok(()) }
    }
}

impl Output {
    /// Adds a report, `name` of which is for messages.
    pub(super) fn add(&mut self, name: &str, reporter: Box<dyn Reporter + Send>) {
        self.reports.push(Report { name: name.to_owned(), reporter });
    }

    /// Writes an event to all reports. One that cannot be written gets no more; the run goes on without it.
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

/// Annotations and the summary of the step, as the variables of GitHub Actions say.
fn github() -> anyhow::Result<Report> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let summary = variable("GITHUB_STEP_SUMMARY");
    if let Some(path) = &summary {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.with_context(|| {
            format!(
                "--format github: GITHUB_STEP_SUMMARY names {}, which cannot be written",
                path.display()
            )
        })?;
    }
    let root = match variable("GITHUB_WORKSPACE") {
        Some(root) => root,
        None => {
            std::env::current_dir().context("--format github: the current folder is not known")?
        }
    };
    let reporter = Box::new(Annotations::new(io::stdout(), summary, root));
    Ok(Report { name: "the summary for GitHub".to_owned(), reporter })
}
