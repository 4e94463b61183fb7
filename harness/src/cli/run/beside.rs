//! `--compare-with-collector`: the same scenarios once more with another collector, and what differs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use harness::{
    compare::{self, Outcome},
    event::Event,
    saved::{self, SavedError, SavedSystem},
    verdict::Verdict,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{exit_code, output::Output},
    Args as RunArgs, command_line, drive,
};

/// Options of the comparison.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(in super::super) struct Args {
    /// Runs the scenarios once more with another collector, and reports what differs in Datadog's payloads and APM stats, as
    /// `tracecheck compare` does: with a config (a file that ends with .yaml or .yml), or as another program (a command line; in
    /// Kubernetes an image). `--html` writes the comparison then, and `--save` keeps the second run in the folder `compared`.
    #[arg(long, value_name = "CONFIG|COMMAND|IMAGE", conflicts_with_all = ["attach", "keep"])]
    compare_with_collector: Option<String>,
}

impl Args {
    /// Returns whether there is another collector to compare with.
    pub(super) fn is_wanted(&self) -> bool {
        self.compare_with_collector.is_some()
    }

    /// Refuses the option where a command does not run its scenarios once.
    pub(in super::super) fn refuse(&self) -> anyhow::Result<()> {
        match self.is_wanted() {
            true => {
                bail!("--compare-with-collector compares two runs: use it with `tracecheck run`")
            }
            false => Ok(()),
        }
    }
}

/// Runs the scenarios with both collectors, and compares.
pub(super) async fn run(
    mut args: RunArgs,
    output: Output,
    cancel: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let Some(other) = args.beside.compare_with_collector.take() else {
        bail!("--compare-with-collector names no collector")
    };
    if args.output.is_for_github() {
        bail!(
            "--compare-with-collector reports two runs, and `--format github` is for one: run twice with `--save DIR`, and give both folders to `tracecheck compare`"
        )
    }
    // What is wrong with it is found out before the first run.
    let other = Other::new(&args, &other)?;
    let folder = tempfile::tempdir().context("no folder can be created for the runs")?;
    let first = args.save.clone().unwrap_or_else(|| folder.path().join("a"));
    let second = first.join("compared");
    let (summary_a, _) = drive(&args, Some(first.clone()), (output, None), cancel.clone()).await?;
    if cancel.is_cancelled() {
        return Ok(exit_code::of(summary_a.verdict()));
    }
    let names = [args.collector(), other.name.clone()];
    other.put_into(&mut args)?;
    args.save = Some(second.clone());
    // A JUnit report is the first run's.
    let output = args.output.open_stdout(args.verbose > 0);
    let (summary_b, _) = drive(&args, Some(second.clone()), (output, None), cancel).await?;
    let [a, b] = [(&names[0], &first), (&names[1], &second)].map(|(name, dir)| read(name, dir));
    let comparison = compare::compare((&names[0], &a?), (&names[1], &b?))?;
    args.html.write_comparison(&comparison)?;
    let outcome = comparison.outcome;
    let mut output = args.output.open_stdout(args.verbose > 0);
    output.observe(&Event::Compared { comparison: Box::new(comparison) });
    output.finish()?;
    Ok(code([summary_a.verdict(), summary_b.verdict()], outcome))
}

/// Reads the run with the collector `name`.
fn read(name: &str, dir: &Path) -> anyhow::Result<Vec<SavedSystem>> {
    saved::read(dir).map_err(|error| match error {
        SavedError::Empty { .. } => anyhow!(
            "--compare-with-collector: nothing was compared, since no system came up with {name}; each scenario of that run says why, \
             under `undecided`"
        ),
        error => anyhow!(error).context(format!("the run in {} cannot be compared", dir.display())),
    })
}

/// The worst of both verdicts and of the comparison.
fn code(verdicts: [Verdict; 2], outcome: Outcome) -> ExitCode {
    let compared = match outcome {
        Outcome::Equal => Verdict::Pass,
        Outcome::Undecided => Verdict::Inconclusive,
        Outcome::Different => Verdict::Fail,
    };
    exit_code::of(verdicts.into_iter().fold(compared, Verdict::max))
}

/// The other collector.
struct Other {
    name: String,
    kind: Kind,
}

enum Kind {
    Config(PathBuf),
    Command(String),
    Image(String),
}

impl Other {
    fn new(args: &RunArgs, text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        let is_config = path.extension().is_some_and(|is| is == "yaml" || is == "yml");
        if is_config && !path.is_file() {
            bail!(
                "--compare-with-collector: there is no config at {text}; name a file, or another collector's command line"
            );
        }
        let kind = match () {
            () if is_config => Kind::Config(path.to_owned()),
            () if args.environment.is_kubernetes() => Kind::Image(text.to_owned()),
            () if args.environment.is_elsewhere() => bail!(
                "--compare-with-collector {text}: in containers of Docker only another config can be compared with; run twice with --save, \
                 and use `tracecheck compare`"
            ),
            () => Kind::Command(text.to_owned()),
        };
        if let Kind::Command(text) = &kind {
            let line = command_line(text)
                .map_err(|wrong| anyhow::anyhow!("--compare-with-collector {text}: {wrong}"))?;
            args.environment.check_collector("--compare-with-collector", &line.0)?;
        }
        Ok(Self { name: text.to_owned(), kind })
    }

    fn put_into(self, args: &mut RunArgs) -> anyhow::Result<()> {
        match self.kind {
            Kind::Config(path) => args.collector_config = Some(path),
            Kind::Command(text) => {
                args.collector_command = Some(command_line(&text).map_err(anyhow::Error::msg)?);
            }
            Kind::Image(reference) => args.environment.kubernetes.set_collector_image(reference),
        }
        Ok(())
    }
}

impl RunArgs {
    /// The first run's collector, in words.
    fn collector(&self) -> String {
        match (&self.collector_command, &self.collector_config) {
            (Some(line), _) => line.0.join(" "),
            (None, Some(config)) => format!("the built-in collector with {}", config.display()),
            (None, None) => "the collector of the scenarios' systems".to_owned(),
        }
    }
}
