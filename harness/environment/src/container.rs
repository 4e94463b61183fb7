//! How a workload runs in a container, whatever starts the container: its image, arguments, variables, files, and the
//! ports that it listens at.
//!
//! In a container every workload has an address of its own, so port numbers are fixed and known before anything starts;
//! nothing has to be reported back. Starting, publishing and watching containers is left to the environments.

use std::collections::{BTreeMap, BTreeSet};

use super::EnvironmentError;
use harness_core::secret::Secret;
use harness_system::{
    Health, Limits, Program, Role, StopSignal, System, Workload,
    reference::{Reference, Template},
};

#[cfg(test)]
mod tests;

/// Folder of a workload's files in its container.
pub(crate) const FILES_DIR: &str = "/etc/tracecheck/files";
/// The first number for ports that have no usual one.
const FIRST_OTHER_PORT: u16 = 9000;
/// The program in our own image.
const TRACECHECK: &str = "/tracecheck";

/// One workload as a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The workload's name.
    pub workload: String,
    /// Role of the workload in the system.
    pub role: Role,
    /// Host name for other workloads: a container's name in a network, or a Service's.
    pub host: String,
    /// Its image.
    pub image: Image,
    /// The program and its first words, in place of the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// The arguments after them.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables that must not be printed or written to a log.
    pub secrets: BTreeMap<String, Secret>,
    /// Texts of the files in [`FILES_DIR`], by file name.
    pub files: BTreeMap<String, String>,
    /// Number of each port, by port name. No number is there twice.
    pub ports: BTreeMap<String, u16>,
    /// Health check beyond the bound ports.
    pub health: Option<Health>,
    /// Time limits for startup and shutdown, and the signal that requests shutdown.
    pub limits: Limits,
    /// Number of the user that runs it; by default our own image's, and elsewhere what the environment gives.
    pub user: Option<u32>,
}

impl Container {
    /// Returns the container's grace period in whole seconds, rounded up; `usual` if the workload sets none.
    pub fn stop_seconds(&self, usual: u64) -> u64 {
        self.limits
            .stop
            .map_or(usual, |stop| stop.as_millis().div_ceil(1000).try_into().unwrap_or(usual))
    }

    /// Returns the exit status of a program that its stop signal terminated: 128 plus the signal's number.
    pub fn status_of_stop(&self) -> i64 {
        128 + match self.limits.stop_signal {
            StopSignal::Hup => 1,
            StopSignal::Int => 2,
            StopSignal::Quit => 3,
            StopSignal::Kill => 9,
            StopSignal::Usr1 => 10,
            StopSignal::Usr2 => 12,
            StopSignal::Term => 15,
        }
    }

    /// Returns whether the container runs another program than `tracecheck`, which reports that it listens and stops
    /// as requested.
    pub fn is_foreign(&self) -> bool {
        self.entrypoint.first().is_none_or(|program| program != TRACECHECK)
    }
}

/// Image of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The one that holds `tracecheck`.
    Tracecheck,
    /// An image of a third party, by its reference.
    Named(String),
}

/// An environment's choices for its containers.
pub(crate) struct Choices<'a> {
    /// Its name, for messages.
    pub environment: &'static str,
    /// The host name under which others reach a workload, by the workload's name.
    pub host: &'a (dyn Fn(&str) -> String + Sync),
    /// Image references of workloads that are programs of the user's, by the workload's name.
    pub images: &'a BTreeMap<String, String>,
}

/// All workloads of a system as containers, in the system's order.
///
/// # Errors
/// When a workload is a program of this machine for which no image is named, or a reference stands for nothing.
pub(crate) fn plan(
    system: &System,
    choices: &Choices<'_>,
) -> Result<Vec<Container>, EnvironmentError> {
    plan_with_ports(system, choices, &BTreeMap::new())
}

/// As [`plan`], where some workloads say themselves which numbers their ports have; by workload, then by port.
///
/// # Errors
/// As [`plan`].
pub(crate) fn plan_with_ports(
    system: &System,
    choices: &Choices<'_>,
    fixed: &BTreeMap<String, BTreeMap<String, u16>>,
) -> Result<Vec<Container>, EnvironmentError> {
    let numbers = |workload: &Workload| {
        let mut numbers = port_numbers(&workload.ports);
        numbers
            .extend(fixed.get(&workload.name).into_iter().flatten().map(|(k, v)| (k.clone(), *v)));
        numbers
    };
    let ports: BTreeMap<&str, BTreeMap<String, u16>> = system
        .workloads
        .iter()
        .map(|workload| (workload.name.as_str(), numbers(workload)))
        .collect();
    let planner = Planner { choices, ports };
    system.workloads.iter().map(|workload| planner.container(workload)).collect()
}

/// The number of each port: the usual one where the name has one and no other port has it already, else the next free one
/// from 9000 on, in the order of the names. The same names always get the same numbers.
pub(crate) fn port_numbers(names: &[String]) -> BTreeMap<String, u16> {
    let names: BTreeSet<&String> = names.iter().collect();
    let mut numbers = BTreeMap::new();
    for name in &names {
        if let Some(number) = usual_number(name) {
            numbers.insert((*name).clone(), number);
        }
    }
    let mut next = FIRST_OTHER_PORT;
    for name in names {
        if !numbers.contains_key(name) {
            numbers.insert(name.clone(), next);
            next = next.saturating_add(1);
        }
    }
    numbers
}

/// The number that users know a port by. Each is below [`FIRST_OTHER_PORT`] or beyond what a system can count up to from
/// there, so that no two ports meet.
fn usual_number(name: &str) -> Option<u16> {
    match name {
        "http" => Some(8080),
        "otlp-grpc" => Some(4317),
        "otlp-http" => Some(4318),
        "metrics" => Some(8888),
        "health" => Some(13_133),
        _ => None,
    }
}

struct Planner<'a> {
    choices: &'a Choices<'a>,
    ports: BTreeMap<&'a str, BTreeMap<String, u16>>,
}

impl Planner<'_> {
    fn container(&self, workload: &Workload) -> Result<Container, EnvironmentError> {
        let image = self.choices.images.get(&workload.name).cloned();
        let (image, entrypoint) = match &workload.program {
            Program::Builtin(subcommand) => {
                let image = image.map_or(Image::Tracecheck, Image::Named);
                (image, vec![TRACECHECK.to_owned(), subcommand.clone()])
            }
            Program::Command(program) => {
                let image = image.ok_or_else(|| EnvironmentError::Unsupported {
                    environment: self.choices.environment,
                    verb: "start",
                    workload: workload.name.clone(),
                    reason: format!(
                        "`{program}` is a program of this machine; name an image that contains it with `--image {}=REFERENCE`",
                        workload.name
                    ),
                })?;
                (Image::Named(image), vec![program.clone()])
            }
        };
        let expand = |text: &str| self.expand(workload, text);
        let args = workload.args.iter().map(|arg| expand(arg)).collect::<Result<_, _>>()?;
        let env = workload.env.iter().map(|(name, value)| Ok((name.clone(), expand(value)?)));
        let env = env.collect::<Result<_, EnvironmentError>>()?;
        let files = workload.files.iter().map(|(name, file)| {
            let text = if file.expand { expand(&file.contents)? } else { file.contents.clone() };
            Ok((name.clone(), text))
        });
        let files = files.collect::<Result<_, EnvironmentError>>()?;
        Ok(Container {
            workload: workload.name.clone(),
            role: workload.role,
            host: (self.choices.host)(&workload.name),
            image,
            entrypoint,
            args,
            env,
            secrets: workload.secrets.clone(),
            files,
            ports: self.ports.get(workload.name.as_str()).cloned().unwrap_or_default(),
            health: workload.health.clone(),
            limits: workload.limits,
            user: workload.user,
        })
    }

    fn expand(&self, workload: &Workload, text: &str) -> Result<String, EnvironmentError> {
        let unresolved = |reference: String| EnvironmentError::Unresolved {
            workload: workload.name.clone(),
            reference,
        };
        let number = |of: &str, port: &str| self.ports.get(of)?.get(port).copied();
        let own = |port: &str| number(&workload.name, port);
        let address = |of: &str, port: &str| {
            number(of, port).map(|number| format!("{}:{number}", (self.choices.host)(of)))
        };
        let template = Template::parse(text).map_err(|error| unresolved(error.to_string()))?;
        template.expand(|reference| {
            let value = match reference {
                Reference::Endpoint { workload, port } => {
                    address(workload, port).map(|address| format!("http://{address}"))
                }
                Reference::Address { workload, port } => address(workload, port),
                Reference::Listen { port } => own(port).map(|number| format!("0.0.0.0:{number}")),
                Reference::Host { port } => own(port).map(|_| "0.0.0.0".to_owned()),
                Reference::Port { port } => own(port).map(|number| number.to_string()),
                Reference::File { name } => {
                    workload.files.contains_key(name).then(|| format!("{FILES_DIR}/{name}"))
                }
            };
            value.ok_or_else(|| unresolved(reference.to_string()))
        })
    }
}
