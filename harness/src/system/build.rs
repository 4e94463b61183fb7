//! Builds the system that a scenario chooses.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Role, System, chain,
    collector_overlay::CollectorConfig,
    file,
    parts::{Collector, Destination},
};
use crate::{
    scenario::{ChainChoice, CollectorFeature, SystemChoice},
    secret::Secret,
    source::{self, Finding},
};

/// Overrides of a scenario's or a system file's settings; none by default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Another collector's program and arguments, in place of the built-in one or the system file's.
    pub collector_command: Vec<String>,
    /// The collector's config, passed on unchanged.
    pub collector_config: Option<PathBuf>,
    /// Whether the built-in collector leaves out of its config what is for metrics, logs and profiles alone; where a system file says so,
    /// it does anyway.
    pub traces_only: bool,
    /// Environment variables of services.
    pub env: Vec<Variable>,
    /// Key and site with which the collector sends to Datadog itself, instead of to the mock intake, which is not in the system then.
    pub datadog: Option<ToDatadog>,
}

/// Datadog site and keys that a system's collector sends to.
#[derive(Debug, Clone)]
pub struct ToDatadog {
    /// The site, for example `datadoghq.eu`.
    pub site: String,
    /// The API key.
    pub api_key: Secret,
}

/// An environment variable of a service; its value may hold references, as in a system file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name of the workload; `all` for every service.
    pub workload: String,
    /// Name of the variable.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Variable {
    fn is_for(&self, workload: &str) -> bool {
        self.workload == "all" || self.workload == workload
    }
}

/// A system, and where its collector's config came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The system.
    pub system: System,
    /// The user's config of the collector; `None` where the small one of our own is used.
    pub collector_config: Option<PathBuf>,
}

/// Error for a system that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something is wrong in its files or parameters, each with its place.
    #[error("{}", .0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Finding>),
    /// A variable is for a workload that is not there.
    #[error(
        "there is no service `{name}` to give a variable to{}; it has {}; with `--filter` only the scenarios that have it are run",
        meant(.name, .known),
        source::list(.known.iter().map(String::as_str))
    )]
    UnknownService {
        /// Name as given.
        name: String,
        /// The services there are.
        known: Vec<String>,
    },
    /// A file cannot be read.
    #[error("{path} {}", source::unreadable(.source))]
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Builds the system of a choice, with a newly generated API key unless `overrides` gives Datadog's.
///
/// # Errors
///
/// Everything that is wrong with the system's description.
pub fn system(choice: &SystemChoice, overrides: &Overrides) -> Result<Built, BuildError> {
    let api_key = match &overrides.datadog {
        Some(datadog) => datadog.api_key.clone(),
        None => Secret::new(format!("{:032x}", rand::random::<u128>())),
    };
    let mut built = with_key(choice, overrides, api_key)?;
    if overrides.datadog.is_some() {
        built.system.workloads.retain(|workload| workload.role != Role::Intake);
    }
    Ok(built)
}

fn destination(overrides: &Overrides) -> Destination {
    match &overrides.datadog {
        Some(datadog) => Destination::Datadog { site: datadog.site.clone() },
        None => Destination::Mock,
    }
}

fn with_key(
    choice: &SystemChoice,
    overrides: &Overrides,
    api_key: Secret,
) -> Result<Built, BuildError> {
    match choice {
        SystemChoice::Chain(chain) => built_in(chain, overrides, api_key),
        SystemChoice::File(path) => {
            let mut file = file::load(path).map_err(BuildError::Invalid)?;
            if !overrides.collector_command.is_empty() {
                file.collector.command = command(&overrides.collector_command);
            }
            if let Some(path) = &overrides.collector_config {
                file.collector.config = read_config(path)?;
            }
            file.collector.traces_only |= overrides.traces_only;
            file.collector.destination = destination(overrides);
            let collector_config = user_config(&file.collector);
            let mut system = file.system(&api_key).map_err(BuildError::Invalid)?;
            set_variables(&mut system, &overrides.env)?;
            let problems = system.problems();
            if !problems.is_empty() {
                let of_file = source::file_name(path);
                let reported = |problem| Finding::new(&of_file, format!("{problem}"));
                return Err(BuildError::Invalid(problems.into_iter().map(reported).collect()));
            }
            Ok(Built { system, collector_config })
        }
    }
}

/// Features of a collector that scenarios may require.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    has: Vec<CollectorFeature>,
    /// A config without the exporter that computes APM stats.
    without_stats: Option<String>,
}

impl Features {
    /// Returns the reason why the collector lacks a feature, as the end of a sentence; `None` if it has the feature.
    pub fn lack(&self, feature: CollectorFeature) -> Option<String> {
        let about_stats =
            matches!(feature, CollectorFeature::ApmStats | CollectorFeature::StatsAtEnd);
        match &self.without_stats {
            Some(file) if about_stats => Some(format!(
                "its config {file} has no `datadog` exporter: Datadog computes the stats on its side"
            )),
            _ if self.has.contains(&feature) => None,
            _ => Some("this one is not declared to have it".to_owned()),
        }
    }
}

/// Returns the features of a choice's collector that scenarios may require: all, where it is the built-in one; those in `given`,
/// where another collector takes its place; and APM stats only where its config has the exporter that computes them.
///
/// # Errors
///
/// What is wrong with a system file, or a config that cannot be read.
pub fn collector_features(
    choice: &SystemChoice,
    overrides: &Overrides,
    given: &[CollectorFeature],
) -> Result<Features, BuildError> {
    let (mut has, mut config) = match choice {
        SystemChoice::Chain(chain) => {
            let config = chain.collector_config.as_deref().map(read_config).transpose()?;
            (CollectorFeature::ALL.to_vec(), config)
        }
        SystemChoice::File(path) => {
            let file = file::load(path).map_err(BuildError::Invalid)?;
            (file.collector.features().to_vec(), Some(file.collector.config))
        }
    };
    if let Some(path) = &overrides.collector_config {
        config = Some(read_config(path)?);
    }
    if !overrides.collector_command.is_empty() {
        has = given.to_vec();
    }
    let without_stats = config.filter(|config| !has_datadog_exporter(config));
    Ok(Features { has, without_stats: without_stats.map(|config| config.file) })
}

/// Returns whether a config has the exporter that computes APM stats. One that cannot be read is refused elsewhere.
fn has_datadog_exporter(config: &CollectorConfig) -> bool {
    let Ok(root) = source::read_yaml::<serde_json::Value>(&config.file, &config.text) else {
        return true;
    };
    let Some(exporters) = root["exporters"].as_object() else { return true };
    exporters.keys().any(|id| id.split('/').next() == Some("datadog"))
}

/// The path of a collector's config, if it is a user's; absolute, since the collector may start elsewhere.
fn user_config(collector: &Collector) -> Option<PathBuf> {
    let file = &collector.config.file;
    (*file != Collector::default().config.file)
        .then(|| std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file)))
}

fn read_config(path: &Path) -> Result<CollectorConfig, BuildError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| BuildError::Unreadable { path: path.to_owned(), source })?;
    Ok(CollectorConfig { file: path.display().to_string(), text })
}

/// The nearest name, as a part of a sentence.
fn meant(name: &str, known: &[String]) -> String {
    let known = known.iter().map(String::as_str).chain(["all"]);
    source::nearest(name, known).map_or_else(String::new, |nearest| format!(", {nearest}"))
}

/// Gives services the caller's variables; a later one takes the place of an earlier one.
fn set_variables(system: &mut System, variables: &[Variable]) -> Result<(), BuildError> {
    let mut services: Vec<_> =
        system.workloads.iter_mut().filter(|workload| workload.role == Role::Service).collect();
    for variable in variables {
        let known = || services.iter().map(|workload| workload.name.clone());
        if !known().any(|name| variable.is_for(&name)) {
            return Err(BuildError::UnknownService {
                name: variable.workload.clone(),
                known: known().collect(),
            });
        }
        for workload in services.iter_mut().filter(|workload| variable.is_for(&workload.name)) {
            if workload.meant_service.is_none() {
                workload.meant_service = workload.service_name();
            }
            workload.secrets.remove(&variable.name);
            workload.env.insert(variable.name.clone(), variable.value.clone());
        }
    }
    Ok(())
}

/// A program that is named by a relative path is meant from the caller's directory, wherever it is started.
fn command(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    if let Some(program) = words.first_mut()
        && program.contains('/')
        && let Ok(path) = std::path::absolute(&*program)
    {
        *program = path.display().to_string();
    }
    words
}

fn built_in(
    choice: &ChainChoice,
    overrides: &Overrides,
    api_key: Secret,
) -> Result<Built, BuildError> {
    let mut collector = Collector::default();
    if let Some(path) = overrides.collector_config.as_ref().or(choice.collector_config.as_ref()) {
        collector.config = read_config(path)?;
    }
    collector.command = command(&overrides.collector_command);
    collector.traces_only = overrides.traces_only;
    collector.destination = destination(overrides);
    collector.instances = choice.collector_instances;
    let collector_config = user_config(&collector);
    let mut app_env: BTreeMap<_, _> = choice.env.clone();
    let env = app_env.remove("all").unwrap_or_default();
    let chain = chain::Chain {
        length: choice.apps as usize,
        naming: choice.services,
        protocol: choice.protocol,
        env,
        app_env,
        collector,
        ..chain::Chain::new(api_key)
    };
    let mut system = chain.system().map_err(BuildError::Invalid)?;
    set_variables(&mut system, &overrides.env)?;
    Ok(Built { system, collector_config })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Program, parts::COLLECTOR};

    fn program(choice: &SystemChoice, command: &[&str]) -> (Program, Vec<String>) {
        let collector_command = command.iter().map(|&word| word.to_owned()).collect();
        let overrides = Overrides { collector_command, ..Overrides::default() };
        let system = system(choice, &overrides).unwrap().system;
        let collector = system.workload(COLLECTOR).unwrap();
        (collector.program.clone(), collector.args.clone())
    }

    #[test]
    fn another_collector_has_the_features_that_are_declared_for_it_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = |collector: &str| {
            let path = dir.path().join("system.yaml");
            let text = format!(
                "entry: web\nworkloads: [{{ name: web, command: [web, '${{listen:http}}'], ports: [http] }}]\ncollector: {collector}\n"
            );
            std::fs::write(&path, text).unwrap();
            SystemChoice::File(path)
        };
        let none = Overrides::default();
        let other = Overrides { collector_command: vec!["x".to_owned()], ..Overrides::default() };
        let of = |choice: &SystemChoice, command, given: &[CollectorFeature]| {
            collector_features(choice, command, given).unwrap().has
        };
        let (all, stats) = (CollectorFeature::ALL.to_vec(), vec![CollectorFeature::ApmStats]);
        assert_eq!(of(&SystemChoice::Chain(ChainChoice::default()), &none, &[]), all);
        assert_eq!(of(&SystemChoice::Chain(ChainChoice::default()), &other, &stats), stats);
        assert_eq!(of(&file("{}"), &none, &[]), all);
        assert_eq!(of(&file("{ command: [otelcol] }"), &none, &[]), []);
        assert_eq!(of(&file("{ command: [otelcol], has: [apm-stats] }"), &none, &[]), stats);
        assert_eq!(of(&file("{ command: [otelcol], has: [apm-stats] }"), &other, &[]), []);
    }

    #[test]
    fn a_collector_whose_config_sends_otlp_only_computes_no_stats() {
        let dir = tempfile::tempdir().unwrap();
        let lacks = |exporters: &str, command: &[&str]| {
            let path = dir.path().join("collector.yaml");
            std::fs::write(&path, format!("exporters: {exporters}\n")).unwrap();
            let overrides = Overrides {
                collector_command: command.iter().map(|&word| word.to_owned()).collect(),
                collector_config: Some(path),
                ..Overrides::default()
            };
            let chain = SystemChoice::Chain(ChainChoice::default());
            let features = collector_features(&chain, &overrides, &CollectorFeature::ALL).unwrap();
            CollectorFeature::ALL.map(|feature| features.lack(feature).is_some())
        };
        let (all, no_stats) = ([false; 5], [true, false, false, true, false]);
        for command in [&[] as &[&str], &["otelcol"]] {
            assert_eq!(lacks("{ otlphttp/datadog: {}, debug: {} }", command), no_stats);
            assert_eq!(lacks("{ otlphttp: {}, datadog/x: {} }", command), all);
            // What is wrong here is reported when the system is built.
            assert_eq!(lacks("[", command), all);
        }
    }

    #[test]
    fn another_collector_takes_the_place_of_ours_in_a_chain_and_in_a_system_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("system.yaml");
        let text = "entry: web\nworkloads:\n  - { name: web, command: [web, '${listen:http}'], ports: [http] }\n";
        std::fs::write(&path, text).unwrap();
        for choice in [SystemChoice::Chain(ChainChoice::default()), SystemChoice::File(path)] {
            assert_eq!(program(&choice, &[]).0, Program::Builtin("collector".to_owned()));
            let (other, args) = program(&choice, &["/opt/otelcol", "--feature-gates=x"]);
            assert_eq!(other, Program::Command("/opt/otelcol".to_owned()));
            assert_eq!(args[0], "--feature-gates=x");
            let Program::Command(relative) = program(&choice, &["./otelcol"]).0 else { panic!() };
            assert!(Path::new(&relative).is_absolute(), "{relative}");
        }
    }

    #[test]
    fn variables_and_a_collector_config_reach_the_workloads_of_a_system_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("system.yaml");
        let text = "entry: web\nworkloads:\n  - { name: web, command: [web, '${listen:http}'], ports: [http] }\n";
        std::fs::write(&path, text).unwrap();
        let config = dir.path().join("collector.yaml");
        let default = Collector::default().config.text;
        std::fs::write(&config, format!("# mine\n{default}")).unwrap();
        let choice = SystemChoice::File(path);
        let variable = |workload: &str, name: &str| Variable {
            workload: workload.to_owned(),
            name: name.to_owned(),
            value: "x".to_owned(),
        };
        let overrides = Overrides {
            collector_config: Some(config.clone()),
            env: vec![variable("all", "A"), variable("web", "B")],
            ..Overrides::default()
        };
        let built = system(&choice, &overrides).unwrap();
        assert_eq!(built.collector_config, Some(config));
        let workload = |name| built.system.workload(name).unwrap();
        let set: Vec<&str> = workload("web").env.keys().map(String::as_str).collect();
        assert_eq!(set, ["A", "B"]);
        assert!(!workload(COLLECTOR).env.contains_key("A"));
        assert!(workload(COLLECTOR).files["collector.yaml"].contents.starts_with("# mine"));
        let overrides = Overrides { env: vec![variable("wed", "A")], ..Overrides::default() };
        let error = system(&choice, &overrides).unwrap_err().to_string();
        assert!(error.contains("no service `wed`") && error.contains("it has `web`"), "{error}");
    }
}
