//! The workloads that every system has: the mock intake and a collector.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    File, Limits, Program, Role, Workload,
    collector_overlay::{self, API_KEY_VARIABLE, CollectorConfig, Reader},
};
use crate::feature::CollectorFeature;
use harness_core::{secret::Secret, source::Finding};
use harness_intake as intake;

/// Name of the mock intake's workload.
pub const INTAKE: &str = "intake";
/// Name of the collector's workload.
pub const COLLECTOR: &str = "collector";

/// The config of a collector for which nobody wrote one: all over to Datadog, in batches that do not make a scenario
/// wait, and no more in memory than there is.
const DEFAULT_CONFIG: &str = "\
receivers:
  otlp:
    protocols:
      grpc:
      http:
processors:
  memory_limiter:
    check_interval: 1s
    limit_percentage: 80
  batch:
    timeout: 50ms
exporters:
  datadog:
    api:
      key: ${env:TRACECHECK_API_KEY}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [datadog]
";

/// The same for another collector, which may be built without the memory limiter.
const FOREIGN_CONFIG: &str = "\
receivers:
  otlp:
    protocols:
      grpc:
      http:
processors:
  batch:
    timeout: 50ms
exporters:
  datadog:
    api:
      key: ${env:TRACECHECK_API_KEY}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch]
      exporters: [datadog]
";

/// Argument by which the built-in collector leaves out of its config what is for other signals alone. It has a value, since the operator
/// gives a collector no arguments without one.
pub const TRACES_ONLY: &str = "--traces-only=true";

/// A collector as a user describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Config of the collector; a small one of our own by default.
    pub config: CollectorConfig,
    /// Another program and its arguments, for example the reference collector, which is given `--config` twice after
    /// them; the built-in collector when empty.
    pub command: Vec<String>,
    /// Whether the built-in collector leaves out of its config what is for metrics, logs and profiles alone.
    pub traces_only: bool,
    /// Features it has of those that scenarios may require, where it is another program; the built-in collector has all.
    pub features: Vec<CollectorFeature>,
    /// Its environment variables.
    pub env: BTreeMap<String, String>,
    /// Its working directory; see [`Workload::working_dir`].
    pub working_dir: Option<PathBuf>,
    /// Number of instances behind one address.
    pub instances: u32,
    /// Its destination.
    pub destination: Destination,
}

/// Destination of a collector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// The mock intake, whatever its config says.
    #[default]
    Mock,
    /// Datadog: where its config says, and the built-in config at this site. Wanted on purpose alone.
    Datadog {
        /// The site, for example `datadoghq.eu`.
        site: String,
    },
}

impl Default for Collector {
    fn default() -> Self {
        let file = "built-in collector config".to_owned();
        let config = CollectorConfig { file, text: DEFAULT_CONFIG.to_owned() };
        Self {
            config,
            command: Vec::new(),
            traces_only: false,
            features: Vec::new(),
            env: BTreeMap::new(),
            working_dir: None,
            instances: 1,
            destination: Destination::Mock,
        }
    }
}

impl Collector {
    /// The config that it is started with.
    fn config_in_use(&self) -> CollectorConfig {
        let mut config = self.config.clone();
        if !self.command.is_empty() && config.text == DEFAULT_CONFIG {
            FOREIGN_CONFIG.clone_into(&mut config.text);
        }
        config
    }

    /// Returns the collector's features that scenarios may require.
    pub fn features(&self) -> &[CollectorFeature] {
        if self.command.is_empty() { &CollectorFeature::ALL } else { &self.features }
    }

    /// Builds the collector's workload, which sends to its destination with `api_key`.
    ///
    /// # Errors
    /// What is wrong with its config.
    pub fn workload(&self, api_key: &Secret) -> Result<Workload, Vec<Finding>> {
        let reader = match (self.command.is_empty(), self.traces_only) {
            (true, false) => Reader::Builtin,
            (true, true) => Reader::BuiltinOfTraces,
            (false, _) => Reader::Foreign,
        };
        let mut set = self.env.clone();
        // Our own config names it; it is a secret of the workload below.
        set.insert(API_KEY_VARIABLE.to_owned(), String::new());
        let intake = (self.destination == Destination::Mock).then_some(INTAKE);
        let mut config = self.config_in_use();
        let overlay = collector_overlay::overlay(&config, reader, intake, &set)?;
        if let Destination::Datadog { site } = &self.destination
            && self.config == Self::default().config
        {
            config.text =
                config.text.replace("    api:\n", &format!("    api:\n      site: {site}\n"));
        }
        let (program, mut args) = match self.command.split_first() {
            // Less than what an environment waits for a workload to end, so that it can still report what it lost.
            None => {
                let mut args = vec!["--shutdown-timeout=5s".to_owned()];
                args.extend(self.traces_only.then(|| TRACES_ONLY.to_owned()));
                (Program::Builtin("collector".to_owned()), args)
            }
            Some((program, args)) => (Program::Command(program.clone()), args.to_vec()),
        };
        for file in [CONFIG_FILE, OVERLAY_FILE] {
            args.push(format!("--config=${{file:{file}}}"));
        }
        let secrets = overlay.api_key_variables.into_iter().chain([API_KEY_VARIABLE.to_owned()]);
        let files = BTreeMap::from([
            (CONFIG_FILE.to_owned(), File { contents: config.text, expand: false }),
            (OVERLAY_FILE.to_owned(), File { contents: overlay.contents, expand: true }),
        ]);
        Ok(Workload {
            name: COLLECTOR.to_owned(),
            role: Role::Collector,
            program,
            args,
            env: self.env.clone(),
            meant_service: None,
            traced: true,
            public: false,
            secrets: secrets.map(|name| (name, api_key.clone())).collect(),
            ports: overlay.ports,
            health: overlay.health,
            ledger: None,
            instances: self.instances,
            files,
            working_dir: self.working_dir.clone(),
            limits: Limits::default(),
            user: None,
        })
    }
}

/// The file with the config as its author wrote it.
pub const CONFIG_FILE: &str = "collector.yaml";
/// The file with the config that is laid over it.
pub const OVERLAY_FILE: &str = "overlay.json";

/// Creates the workload of the mock intake, which accepts only `api_key`.
pub fn intake(api_key: &Secret) -> Workload {
    Workload {
        name: INTAKE.to_owned(),
        role: Role::Intake,
        program: Program::Builtin("intake".to_owned()),
        args: vec!["--listen=${listen:http}".to_owned()],
        env: BTreeMap::new(),
        meant_service: None,
        traced: true,
        public: false,
        secrets: BTreeMap::from([(intake::API_KEY_VARIABLE.to_owned(), api_key.clone())]),
        ports: vec!["http".to_owned()],
        health: None,
        ledger: None,
        instances: 1,
        files: BTreeMap::new(),
        working_dir: None,
        limits: Limits::default(),
        user: None,
    }
}
