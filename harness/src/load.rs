//! Reads scenario files: all that does not fit the types, or all that is wrong in meaning.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_saphyr::Spanned;

use self::file::{RequireFile, ScenarioFile};
use crate::{
    rule,
    scenario::{Fault, Leveled, Scenario},
    source::{self, FileKind, Finding},
    system::{System, file as system_file},
};

mod expect;
mod fault;
mod file;
mod remedy;
mod request;
pub mod schema;
mod system;

/// Error for scenarios that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something is wrong in the files, each with its place.
    #[error("{}", described(.0))]
    Invalid(Vec<Finding>),
}

fn described(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// The content of the given files and folders.
#[derive(Debug)]
pub struct Loaded {
    /// Scenarios, sorted by name.
    pub scenarios: Vec<Scenario>,
    /// System files among them, in the order they were found; each is valid.
    pub systems: Vec<PathBuf>,
}

/// Loads every scenario of the files and folders given, sorted by name. A folder gives its `*.yaml` and `*.yml` files at its
/// top level, by name. System files among them are checked, and are no scenarios.
///
/// # Errors
///
/// All findings of all files; a path that is missing, or gives no scenario at all, is one.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Scenario>, LoadError> {
    let loaded = check(paths)?;
    if loaded.scenarios.is_empty() {
        let remedy = "a scenario names it by `system: { file: … }`; name that scenario";
        let described = |path: &PathBuf| {
            Finding::new(source::file_name(path), "is a system file, and there is no scenario")
                .suggest(remedy.to_owned())
        };
        return Err(LoadError::Invalid(loaded.systems.iter().map(described).collect()));
    }
    Ok(loaded.scenarios)
}

/// Loads scenarios as [`load`] does, but also accepts system files that no scenario refers to.
///
/// # Errors
///
/// Everything that is wrong with the files.
pub fn check(paths: &[PathBuf]) -> Result<Loaded, LoadError> {
    let mut findings = Vec::new();
    let mut systems = Vec::new();
    let mut scenarios: Vec<(Scenario, Spanned<String>)> = Vec::new();
    for path in files(paths, &mut findings) {
        let name = source::file_name(&path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                findings.push(Finding::new(name, source::unreadable(&error)));
                continue;
            }
        };
        if is_system(&path, &text) {
            if let Err(found) = system_file::load(&path) {
                findings.extend(found);
            }
            systems.push(path);
            continue;
        }
        match parse(&path, &text) {
            Ok((scenario, place)) => scenarios.push((scenario, place)),
            Err(found) => findings.extend(found),
        }
    }
    for (index, (scenario, name)) in scenarios.iter().enumerate() {
        if let Some((first, _)) =
            scenarios[..index].iter().find(|(other, _)| other.name == scenario.name)
        {
            let message =
                format!("the name `{}` is taken by {}", scenario.name, first.file.display());
            findings.push(
                Finding::new(source::file_name(&scenario.file), message).at(source::place_of(name)),
            );
        }
    }
    if !findings.is_empty() {
        return Err(LoadError::Invalid(findings));
    }
    let mut scenarios: Vec<_> = scenarios.into_iter().map(|(scenario, _)| scenario).collect();
    scenarios.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Loaded { scenarios, systems })
}

/// Returns whether it is a system file: by its name, `*.system.yaml`, or by the keys at the start of its lines, of which
/// `workloads` is a system's alone, and `requests` a scenario's.
fn is_system(path: &Path, text: &str) -> bool {
    let stem =
        path.file_stem().is_some_and(|stem| Path::new(stem).extension() == Some("system".as_ref()));
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    stem || (has("workloads:") && !has("requests:"))
}

fn files(paths: &[PathBuf], findings: &mut Vec<Finding>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        let name = source::file_name(path);
        if path.is_dir() {
            let mut found: Vec<PathBuf> = match std::fs::read_dir(path) {
                Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
                Err(error) => {
                    findings.push(Finding::new(name, format!("cannot be read: {error}")));
                    continue;
                }
            };
            found.retain(|file| {
                file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
            });
            found.sort();
            if found.is_empty() {
                findings.push(
                    Finding::new(name, "holds no scenario")
                        .suggest("name a folder with *.yaml files in it".to_owned()),
                );
            }
            files.extend(found);
        } else if path.exists() {
            files.push(path.clone());
        } else {
            findings.push(
                Finding::new(name, "does not exist")
                    .suggest("name scenario files, or a folder of them".to_owned()),
            );
        }
    }
    files
}

/// Reads one scenario from its text; `path` is for messages and for the paths in it.
///
/// # Errors
///
/// A syntax error, or everything that does not fit the types; else everything that is wrong in meaning.
pub fn parse(path: &Path, text: &str) -> Result<(Scenario, Spanned<String>), Vec<Finding>> {
    if source::is_empty(text) {
        let finding = Finding::new(source::file_name(path), "is empty");
        let needs = "a scenario needs `name`, `description` and `requests`";
        return Err(vec![finding.suggest(needs.to_owned())]);
    }
    let name = source::file_name(path);
    if let Some(kind) = source::kind_of(text).filter(|kind| *kind != FileKind::Scenario) {
        return Err(vec![other_file(&name, kind)]);
    }
    let file: ScenarioFile = source::read_all(&name, text, remedy::remedy)?;
    let mut resolver = Resolver { path, findings: Vec::new() };
    let name = file.name.clone();
    let scenario = resolver.scenario(file);
    if resolver.findings.is_empty() {
        return Ok((scenario, name));
    }
    resolver.findings.sort_by_key(|finding| finding.place);
    Err(resolver.findings)
}

impl Workloads {
    /// Returns what a name is ambiguous for, where it is that of a workload and the service name of another one: the service name of the
    /// first, and the workload's name of the other.
    fn meant_twice(&self, name: &str) -> Option<(String, &str)> {
        let services = &self.system.as_ref()?.workloads;
        let own = services.iter().find(|one| one.name == name)?.service_name()?;
        let other = services.iter().find(|one| {
            one.name != name && one.service_name().is_some_and(|service| service == name)
        })?;
        (own != name).then_some((own, other.name.as_str()))
    }
}

/// Says of a file of another kind what it is, and what to do with it.
fn other_file(name: &str, kind: FileKind) -> Finding {
    let remedy = match kind {
        FileKind::CollectorConfig => {
            "name it by `--collector-config`, or in a system file by `collector: { config: … }`"
        }
        _ => {
            "`tracecheck init` writes a system file and a scenario for services that are described otherwise"
        }
    };
    let message = format!(
        "is {}; a scenario is expected here, with `name`, `description` and `requests`",
        kind.name()
    );
    Finding::new(name, message).suggest(remedy.to_owned())
}

/// Turns what is written into what is meant, and gathers what is wrong.
struct Resolver<'a> {
    path: &'a Path,
    findings: Vec<Finding>,
}

/// The workloads that a scenario may name, where they are known.
struct Workloads {
    services: Vec<String>,
    /// Those of them that requests can be sent to: they have a port `http`.
    entries: Vec<String>,
    /// The service names that their spans will have beside the workloads' own; `None` where not all of them are known.
    named: Option<Vec<String>>,
    /// Whether they are the built-in sample apps, which take faults from a header.
    builtin: bool,
    /// The system that runs; `None` where it is invalid.
    system: Option<System>,
}

impl Resolver<'_> {
    fn wrong<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.wrong_with(at, message, None);
    }

    fn wrong_with<T>(
        &mut self,
        at: &Spanned<T>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let finding = Finding::new(source::file_name(self.path), message);
        self.findings.push(finding.at(source::place_of(at)).suggest(suggestion));
    }

    fn scenario(&mut self, file: ScenarioFile) -> Scenario {
        let name = &file.name;
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.value.is_empty() || !name.value.chars().all(kebab) || name.value.len() > 63 {
            self.wrong(
                name,
                format!(
                    "the name `{}` should be at most 63 lower-case letters, digits and hyphens",
                    name.value
                ),
            );
        }
        if file.description.value.trim().is_empty() {
            self.wrong(
                &file.description,
                "`description` is empty: state in one sentence what must hold",
            );
        }
        let (system, workloads) = self.system(file.system);
        if file.requests.value.is_empty() {
            self.wrong(&file.requests, "`requests` is empty: a scenario needs at least one");
        }
        for request in &file.requests.value {
            match (request.value.sampled.unwrap_or(true), file.expect.absent) {
                (false, false) => {
                    self.wrong(
                        request,
                        "`sampled: false` produces no trace: set `expect: { absent: true }`",
                    );
                }
                (true, true) => self.wrong(
                    request,
                    "`absent` requires `sampled: false`, since a sampled request produces a trace",
                ),
                _ => {}
            }
        }
        let requests = self.requests(file.requests.value, &workloads);
        let count = requests.iter().fold(0, |count: u32, one| count.saturating_add(one.times));
        let faults = file.faults.into_iter();
        let faults: Vec<Fault> =
            faults.filter_map(|fault| self.fault(fault, &workloads, count)).collect();
        let expect = self.expect(file.expect, &workloads);
        let mut tolerate = BTreeMap::new();
        for entry in file.tolerate {
            let rule = &entry.value.rule;
            if rule::named(&rule.value).is_none() {
                let known = rule::RULES.iter().map(|rule| rule.name);
                self.wrong_with(
                    rule,
                    format!("there is no rule `{}`", rule.value),
                    source::nearest_or_known(&rule.value, known),
                );
            }
            if entry.value.because.trim().is_empty() {
                self.wrong(
                    &entry,
                    "`because` is empty: give the reason why the rule may fail here",
                );
            }
            tolerate.insert(entry.value.rule.value, entry.value.because);
        }
        let mut levels = BTreeMap::new();
        for entry in file.levels {
            let rule = &entry.value.rule;
            if !rule::LEVELED.contains(&rule.value.as_str()) {
                let message = match rule::named(&rule.value) {
                    Some(_) => {
                        format!(
                            "the level of `{}` cannot be set: it fails, unless it is tolerated",
                            rule.value
                        )
                    }
                    None => format!("there is no rule `{}`", rule.value),
                };
                self.wrong_with(
                    rule,
                    message,
                    source::nearest_or_known(&rule.value, rule::LEVELED),
                );
            }
            if entry.value.because.trim().is_empty() {
                self.wrong(&entry, "`because` is empty: give the reason for this level");
            }
            let leveled =
                Leveled { level: entry.value.level, because: entry.value.because.clone() };
            if levels.insert(rule.value.clone(), leveled).is_some() {
                self.wrong(&entry, format!("`{}` has two levels", rule.value));
            }
        }
        let mut requires = BTreeMap::new();
        for entry in file.requires {
            let RequireFile { collector, because } = entry.value.clone();
            if because.trim().is_empty() {
                self.wrong(
                    &entry,
                    "`because` is empty: give the reason why the collector must have the feature",
                );
            }
            if requires.insert(collector, because).is_some() {
                self.wrong(&entry, format!("`{}` is required twice", collector.name()));
            }
        }
        Scenario {
            name: file.name.value,
            description: file.description.value,
            file: self.path.to_owned(),
            system,
            requests,
            faults,
            expect,
            tolerate,
            levels,
            requires,
        }
    }

    /// A path in the file is meant from the file's own folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

#[cfg(test)]
mod tests;
