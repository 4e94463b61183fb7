//! The systems of a run: ones that it starts, or one that already runs and that it attaches to.

use std::path::PathBuf;

use anyhow::bail;
use harness::{
    run::NewEnvironment,
    scenario::{Scenario, SystemChoice},
    system::{
        System,
        build::{self, Overrides},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{choice::check_traces_only, collector_check, datadog::EvidenceChoice, environment},
    Args,
};

/// The way in which a run gets its systems, chosen once by the command line.
pub(super) enum Systems<'a> {
    /// It starts them.
    Started(Started<'a>),
    /// It attaches to one that already runs.
    Attached(Attached<'a>),
}

/// Systems that a run starts.
pub(super) struct Started<'a> {
    args: &'a Args,
    /// Collector configs that were checked already.
    checked: Vec<PathBuf>,
}

/// A system that already runs.
pub(super) struct Attached<'a> {
    args: &'a Args,
}

/// The environment of a run.
pub(super) struct Chosen {
    /// Its name, for people.
    pub(super) name: String,
    /// Constructor of one for each system.
    pub(super) new: NewEnvironment,
    /// To be awaited when the run is over.
    pub(super) release: Option<environment::Release>,
}

impl<'a> Systems<'a> {
    /// Returns the way that the command line chooses.
    pub(super) fn of(args: &'a Args) -> Self {
        match args.attach.is_wanted() {
            true => Self::Attached(Attached { args }),
            false => Self::Started(Started { args, checked: Vec::new() }),
        }
    }

    /// Returns the changes to what scenarios and system files say about their systems.
    ///
    /// # Errors
    ///
    /// When two collectors are named, or the keys for Datadog are missing.
    pub(super) fn overrides(&self) -> anyhow::Result<Overrides> {
        let args = self.args();
        let has_image = args.environment.has_collector_image();
        if args.collector_command.is_some() && has_image {
            bail!(
                "--collector-command and --collector-image both name the collector; give one of them"
            );
        }
        check_traces_only(args.traces_only, has_image)?;
        if let (Self::Started(_), Some(line)) = (self, &args.collector_command) {
            args.environment.check_collector("--collector-command", &line.0)?;
        }
        Ok(Overrides {
            datadog: match self {
                Self::Started(_) if args.evidence == EvidenceChoice::Datadog => {
                    Some(args.datadog.destination()?)
                }
                // The collector of an attached system is not the run's.
                _ => None,
            },
            collector_command: match &args.collector_command {
                Some(line) => line.0.clone(),
                // Another collector, though only its image knows which program that is.
                None if has_image => vec!["collector".to_owned()],
                None => Vec::new(),
            },
            collector_config: args.collector_config.clone(),
            traces_only: args.traces_only,
            env: args.app_env.clone(),
        })
    }

    /// Returns the overrides by which a collector's features are known. An attached system's collector is a third party's, whatever
    /// its command.
    pub(super) fn for_features(&self, overrides: &Overrides) -> Overrides {
        let mut overrides = overrides.clone();
        if let Self::Attached(_) = self {
            overrides.collector_command = vec!["attached".to_owned()];
        }
        overrides
    }

    /// Builds the system of a scenario, and checks what can be checked before anything starts.
    ///
    /// # Errors
    ///
    /// When the system or its collector's config is invalid.
    pub(super) async fn build(
        &mut self,
        choice: &SystemChoice,
        overrides: &Overrides,
    ) -> anyhow::Result<System> {
        let mut built = build::system(choice, overrides)?;
        match self {
            Self::Attached(Attached { args }) => {
                args.attach.adapt(&mut built.system, args.has_mock(), &args.environment);
            }
            Self::Started(Started { args, checked }) => {
                if let SystemChoice::File(path) = choice {
                    args.environment.check_system(path)?;
                }
                if let Some(config) = built.collector_config
                    && !checked.contains(&config)
                {
                    collector_check::check(&built.system, &config).await?;
                    checked.push(config);
                }
            }
        }
        Ok(built.system)
    }

    /// Sets up the environment of the run, and starts nothing.
    ///
    /// # Errors
    ///
    /// When options contradict each other, or what the environment needs is missing.
    pub(super) async fn environment(
        &self,
        scenarios: &[Scenario],
        run_id: &str,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Chosen> {
        match self {
            Self::Attached(Attached { args }) => {
                let attach = &args.attach;
                let new = attach.environment(args.has_mock(), &args.environment, run_id).await?;
                Ok(Chosen { name: "attached".to_owned(), new, release: None })
            }
            Self::Started(Started { args, .. }) => {
                let wanted = environment::Wanted { run_id, keep: args.keep, cancel };
                let outside = args.attach.outside(args.has_mock(), &args.environment)?;
                let has_port = outside.as_ref().is_some_and(|outside| outside.listen.port() != 0);
                if args.keep && scenarios.len() > 1 && has_port {
                    bail!(
                        "--keep leaves the first system's intake at the port of --intake-listen, which then is in use: use port 0, or run one scenario"
                    );
                }
                let environment = args.environment.choose(&wanted).await?;
                let new = match outside {
                    Some(outside) => environment::with_intake_outside(environment.new, outside)?,
                    None => environment.new,
                };
                Ok(Chosen { name: environment.name.to_owned(), new, release: environment.release })
            }
        }
    }

    /// Returns how many systems may be up at the same time. Of an attached one, there is one, with one intake at one address.
    pub(super) fn parallel(&self) -> usize {
        match self {
            Self::Started(Started { args, .. }) => usize::from(args.parallel),
            Self::Attached(_) => 1,
        }
    }

    /// Returns whether logs are kept by the run where a scenario does not pass. Programs of this machine log where the user can
    /// look, and those of an attached system are not the run's.
    pub(super) fn keeps_logs(&self) -> bool {
        match self {
            Self::Started(Started { args, .. }) => {
                args.save.is_none() && args.environment.is_elsewhere()
            }
            Self::Attached(_) => false,
        }
    }

    fn args(&self) -> &'a Args {
        match self {
            Self::Started(Started { args, .. }) | Self::Attached(Attached { args }) => args,
        }
    }
}
