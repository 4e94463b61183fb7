//! Builds the system that a scenario chooses.

use std::{collections::BTreeMap, path::PathBuf};

use super::{System, chain, collector_overlay::CollectorConfig, file, parts::Collector};
use crate::{
    scenario::{Chain, CollectorFeature, SystemChoice},
    secret::Secret,
    source::Finding,
};

/// Why a system cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something is wrong in its files or parameters, each with its place.
    #[error("{}", .0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Finding>),
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The system of a choice, with a new API key of its own. `collector_command` is another collector's program and arguments, to
/// take the built-in one's place.
///
/// # Errors
///
/// All that is wrong with it.
pub fn system(
    choice: &SystemChoice,
    collector_command: Option<&str>,
) -> Result<System, BuildError> {
    let api_key = Secret::new(format!("{:032x}", rand::random::<u128>()));
    match choice {
        SystemChoice::Chain(chain) => built_in(chain, collector_command, api_key),
        SystemChoice::File(path) => {
            let mut file = file::load(path).map_err(BuildError::Invalid)?;
            if let Some(command) = collector_command {
                file.collector.command = words(command);
            }
            file.system(&api_key).map_err(BuildError::Invalid)
        }
    }
}

/// What the collector of a choice can do of what scenarios may require: all, where it is the built-in one; what `given` says,
/// where `collector_command` takes its place.
///
/// # Errors
///
/// What is wrong with a system file.
pub fn collector_features(
    choice: &SystemChoice,
    collector_command: Option<&str>,
    given: &[CollectorFeature],
) -> Result<Vec<CollectorFeature>, BuildError> {
    match (collector_command, choice) {
        (Some(_), _) => Ok(given.to_vec()),
        (None, SystemChoice::Chain(_)) => Ok(CollectorFeature::ALL.to_vec()),
        (None, SystemChoice::File(path)) => {
            let file = file::load(path).map_err(BuildError::Invalid)?;
            Ok(file.collector.features().to_vec())
        }
    }
}

/// A command line as it is split: at spaces. A program that is named by a relative path is meant from the caller's
/// directory, wherever it is started.
fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if let Some(program) = words.first_mut()
        && program.contains('/')
        && let Ok(path) = std::path::absolute(&*program)
    {
        *program = path.display().to_string();
    }
    words
}

fn built_in(
    choice: &Chain,
    collector_command: Option<&str>,
    api_key: Secret,
) -> Result<System, BuildError> {
    let mut collector = Collector::default();
    if let Some(path) = &choice.collector_config {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BuildError::Unreadable { path: path.clone(), source })?;
        collector.config = CollectorConfig { file: path.display().to_string(), text };
    }
    collector.command = collector_command.map(words).unwrap_or_default();
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
    chain.system().map_err(BuildError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Program, parts::COLLECTOR};

    fn program(choice: &SystemChoice, command: Option<&str>) -> (Program, Vec<String>) {
        let system = system(choice, command).unwrap();
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
        let of = |choice: &SystemChoice, command, given: &[CollectorFeature]| {
            collector_features(choice, command, given).unwrap()
        };
        let (all, stats) = (CollectorFeature::ALL.to_vec(), vec![CollectorFeature::ApmStats]);
        assert_eq!(of(&SystemChoice::Chain(Chain::default()), None, &[]), all);
        assert_eq!(of(&SystemChoice::Chain(Chain::default()), Some("x"), &stats), stats);
        assert_eq!(of(&file("{}"), None, &[]), all);
        assert_eq!(of(&file("{ command: [otelcol] }"), None, &[]), []);
        assert_eq!(of(&file("{ command: [otelcol], has: [apm-stats] }"), None, &[]), stats);
        assert_eq!(of(&file("{ command: [otelcol], has: [apm-stats] }"), Some("x"), &[]), []);
    }

    #[test]
    fn another_collector_takes_the_place_of_ours_in_a_chain_and_in_a_system_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("system.yaml");
        let text = "entry: web\nworkloads:\n  - { name: web, command: [web, '${listen:http}'], ports: [http] }\n";
        std::fs::write(&path, text).unwrap();
        for choice in [SystemChoice::Chain(Chain::default()), SystemChoice::File(path)] {
            assert_eq!(program(&choice, None).0, Program::Builtin("collector".to_owned()));
            let (other, args) = program(&choice, Some("/opt/otelcol  --feature-gates=x"));
            assert_eq!(other, Program::Command("/opt/otelcol".to_owned()));
            assert_eq!(args[0], "--feature-gates=x");
            let Program::Command(relative) = program(&choice, Some("./otelcol")).0 else {
                panic!()
            };
            assert!(std::path::Path::new(&relative).is_absolute(), "{relative}");
        }
    }
}
