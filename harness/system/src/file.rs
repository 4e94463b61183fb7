//! System files: a user's own services, described in YAML; see docs/system-file.md.
//!
//! A file says what is to run, never where. The mock intake and the collector are there without being written.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Health, INSTANCES, Limits, OwnTraces, ParseSignalError, Problem, Program, Role, StopSignal,
    System, Workload,
    collector_overlay::CollectorConfig,
    parts::{self, COLLECTOR, Collector, INTAKE},
    program::{self, BUILD_OR_CORRECT, Missing},
    reference,
};
use crate::feature::CollectorFeature;
use harness_core::{
    secret::Secret,
    source::{self, FileKind, FilePlace, Finding, place_of},
};

mod remedy;

/// Gives the value of an environment variable of the caller.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A system file that was read; [`SystemFile::system`] checks it as a whole.
#[derive(Debug, Clone)]
pub struct SystemFile {
    /// The services, in written order.
    pub workloads: Vec<Workload>,
    /// Name of the one that requests are sent to.
    pub entry: String,
    /// The collector.
    pub collector: Collector,
    /// Traces that services begin by themselves.
    pub own_traces: Vec<OwnTraces>,
    file: String,
    places: Places,
}

/// Places of the parts of workloads in the file: by workload (empty for the file's own) and part.
type Places = BTreeMap<(String, String), FilePlace>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    entry: Spanned<String>,
    workloads: Vec<Spanned<RawWorkload>>,
    #[serde(default)]
    collector: RawCollector,
    #[serde(default)]
    own_traces: Vec<RawOwnTraces>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwnTraces {
    service: Spanned<String>,
    resource: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorkload {
    name: Spanned<String>,
    command: Option<Vec<Spanned<String>>>,
    builtin: Option<Spanned<String>>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    inherit: Vec<Spanned<String>>,
    #[serde(default)]
    inherit_secrets: Vec<Spanned<String>>,
    #[serde(default)]
    ports: Vec<Spanned<String>>,
    health: Option<Spanned<RawHealth>>,
    ledger: Option<Spanned<String>>,
    instances: Option<Spanned<u32>>,
    #[serde(default)]
    files: BTreeMap<String, Spanned<RawFile>>,
    dir: Option<Spanned<String>>,
    start_limit: Option<Spanned<String>>,
    stop_limit: Option<Spanned<String>>,
    stop_signal: Option<Spanned<String>>,
    user: Option<Spanned<u32>>,
    traced: Option<bool>,
    public: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHealth {
    port: String,
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFile {
    Text(String),
    Path(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawCollector {
    config: Option<Spanned<String>>,
    #[serde(default)]
    command: Vec<String>,
    traces_only: Option<Spanned<bool>>,
    #[serde(default)]
    has: Vec<CollectorFeature>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    instances: Option<Spanned<u32>>,
}

/// Reads a file and those that it names, and checks the system as a whole; `inherit` means this process's
/// environment.
///
/// # Errors
/// As [`SystemFile::read`] and [`SystemFile::system`].
pub fn load(path: &Path) -> Result<SystemFile, Vec<Finding>> {
    let file = SystemFile::read(path, &|name| std::env::var(name).ok())?;
    // Whether it is sound does not depend on the key.
    file.system(&Secret::new(""))?;
    Ok(file)
}

impl SystemFile {
    /// Returns the names of the services' workloads, in the order of the file.
    pub fn service_names(&self) -> Vec<String> {
        self.workloads.iter().map(|workload| workload.name.clone()).collect()
    }

    /// Reads a file and those that it names. `variables` are the caller's, for `inherit`.
    ///
    /// # Errors
    /// A syntax error, or everything that does not fit the types, else everything that could not be read.
    pub fn read(path: &Path, variables: Variables<'_>) -> Result<Self, Vec<Finding>> {
        let file = source::file_name(path);
        let text = fs::read_to_string(path)
            .map_err(|error| vec![Finding::new(&file, source::unreadable(&error))])?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        Self::parse(&file, &text, dir, variables)
    }

    /// Reads a text; `dir` is where its relative paths start.
    ///
    /// # Errors
    /// As [`SystemFile::read`].
    pub fn parse(
        file: &str,
        text: &str,
        dir: &Path,
        variables: Variables<'_>,
    ) -> Result<Self, Vec<Finding>> {
        if source::is_empty(text) {
            let needs = "a system file needs `entry` and `workloads`".to_owned();
            return Err(vec![Finding::new(file, "is empty").suggest(needs)]);
        }
        if let Some(kind) = source::kind_of(text).filter(|kind| *kind != FileKind::System) {
            return Err(vec![other_file(file, kind)]);
        }
        let raw: Raw = source::read_all(file, text, remedy::remedy)?;
        // A program that starts in this directory must find it from there too.
        let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let mut reader =
            Reader { file, dir: &dir, variables, places: BTreeMap::new(), findings: Vec::new() };
        reader.at("", "entry", place_of(&raw.entry));
        let collector = reader.collector(raw.collector);
        let workloads: Vec<Workload> =
            raw.workloads.into_iter().map(|raw| reader.workload(raw)).collect();
        let own_traces = raw.own_traces.into_iter();
        let own_traces = own_traces.map(|raw| reader.own_traces(raw, &workloads)).collect();
        let Reader { places, findings, .. } = reader;
        if !findings.is_empty() {
            return Err(findings);
        }
        let entry = raw.entry.value;
        Ok(Self { workloads, entry, collector, own_traces, file: file.to_owned(), places })
    }

    /// Builds the complete system, whose collector and intake use `api_key`.
    ///
    /// # Errors
    /// Everything that is wrong with the system and the collector's config.
    pub fn system(&self, api_key: &Secret) -> Result<System, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut workloads = vec![parts::intake(api_key)];
        match self.collector.workload(api_key) {
            Ok(collector) => workloads.push(collector),
            // References to it cannot be judged before its config is sound.
            Err(found) => return Err(found),
        }
        workloads.extend(self.workloads.iter().cloned());
        let own_traces = self.own_traces.clone();
        let system = System { workloads, entry: self.entry.clone(), own_traces };
        findings.extend(system.problems().into_iter().map(|problem| self.finding(problem)));
        if findings.is_empty() { Ok(system) } else { Err(findings) }
    }

    /// Returns a finding for each program that this machine lacks, with `search` in place of `PATH`. Containers have
    /// the programs in their images instead.
    pub fn missing_programs(&self, search: Option<&OsStr>) -> Vec<Finding> {
        let missing = self.workloads.iter().filter_map(|workload| {
            let Program::Command(program) = &workload.program else { return None };
            let Missing { message, remedy } = program::missing(program, search)?;
            let suggestion = match remedy == BUILD_OR_CORRECT {
                true => {
                    format!("{remedy}; relative paths are resolved against this file's directory")
                }
                false => remedy,
            };
            Some(self.finding(Problem {
                workload: Some(workload.name.clone()),
                part: "command".to_owned(),
                message,
                suggestion: Some(suggestion),
            }))
        });
        missing.collect()
    }

    /// Returns a finding for each workload whose start limit exceeds that of the run.
    pub fn beyond_start_limit(&self, limit: Duration) -> Vec<Finding> {
        let beyond = self.workloads.iter().filter_map(|workload| {
            let own = workload.limits.start.filter(|own| *own > limit)?;
            Some(self.finding(Problem {
                workload: Some(workload.name.clone()),
                part: "start_limit".to_owned(),
                message: format!("{own:?} is beyond the run's limit of {limit:?}"),
                suggestion: Some("raise `--start-limit`, or lower it here".to_owned()),
            }))
        });
        beyond.collect()
    }

    /// Returns settings of workloads that mean nothing where they run from images; with `is_cluster`, where Kubernetes stops them and
    /// `start_limit` is that of all of them together.
    pub fn not_for_images(&self, is_cluster: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        for workload in &self.workloads {
            let mut report = |part: &str, message: String, remedy: &str| {
                findings.push(self.finding(Problem {
                    workload: Some(workload.name.clone()),
                    part: part.to_owned(),
                    message,
                    suggestion: Some(remedy.to_owned()),
                }));
            };
            if self.places.contains_key(&(workload.name.clone(), "dir".to_owned())) {
                let message = "it is a directory of this machine, and an image has its own";
                report(
                    "dir",
                    message.to_owned(),
                    "set WORKDIR in the image, and take `dir` out for it",
                );
            }
            let signal = workload.limits.stop_signal;
            if is_cluster && signal != StopSignal::default() {
                let message =
                    format!("Kubernetes does not send {} for a workload's sake", signal.name());
                report(
                    "stop_signal",
                    message,
                    "set STOPSIGNAL in the image, and take `stop_signal` out for it",
                );
            }
        }
        findings
    }

    fn finding(&self, problem: Problem) -> Finding {
        let Problem { workload, part, message, suggestion } = problem;
        let workload = workload.unwrap_or_default();
        let place = |part: &str| self.places.get(&(workload.clone(), part.to_owned())).copied();
        let message = match (workload.as_str(), part.as_str()) {
            ("", "") => message,
            ("", part) => format!("`{part}`: {message}"),
            (workload, "") => format!("workload `{workload}`: {message}"),
            (workload, part) => format!("workload `{workload}`, `{part}`: {message}"),
        };
        Finding::new(&self.file, message).at(place(&part).or_else(|| place(""))).suggest(suggestion)
    }
}

struct Reader<'a> {
    file: &'a str,
    dir: &'a Path,
    variables: Variables<'a>,
    places: Places,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn workload(&mut self, raw: Spanned<RawWorkload>) -> Workload {
        let place = place_of(&raw);
        let RawWorkload {
            name,
            command,
            builtin,
            args,
            env,
            inherit,
            inherit_secrets,
            ports,
            health,
            ledger,
            instances,
            files,
            dir,
            start_limit,
            stop_limit,
            stop_signal,
            user,
            traced,
            public,
        } = raw.value;
        let workload = name.value.clone();
        self.at(&workload, "", place);
        self.at(&workload, "name", place_of(&name));
        if [INTAKE, COLLECTOR].contains(&workload.as_str()) {
            let message = format!("`{workload}` is in every system already");
            let suggestion = if workload == COLLECTOR {
                "describe it under `collector`"
            } else {
                "rename this one"
            };
            self.find(message, Some(suggestion.to_owned()), place_of(&name));
        }
        let traced = traced.unwrap_or(true);
        if let (false, Some(ledger)) = (traced, &ledger) {
            let message = format!("workload `{workload}` has a `ledger`, and is not `traced`");
            let remedy = "take away one of the two: a ledger lists the spans that a service made";
            self.find(message, Some(remedy.to_owned()), place_of(ledger));
        }
        if !traced && public == Some(true) {
            let message = format!("workload `{workload}` is `public`, and not `traced`");
            let remedy = "take away one of the two: what makes no spans begins no traces";
            self.find(message, Some(remedy.to_owned()), place);
        }
        let mut all_args = Vec::new();
        let program = match (command, builtin) {
            (Some(command), None) => {
                let mut command = command.into_iter();
                let program = command.next();
                self.at(&workload, "command", program.as_ref().and_then(place_of));
                let program = program.map(|one| one.value).unwrap_or_default();
                all_args.extend(command);
                Program::Command(self.program(program))
            }
            (None, Some(builtin)) => {
                self.at(&workload, "builtin", place_of(&builtin));
                Program::Builtin(builtin.value)
            }
            (command, _) => {
                let what = if command.is_some() { "both" } else { "neither" };
                let message = format!("workload `{workload}` has {what} `command` and `builtin`");
                let message = message.replace("neither `command` and", "neither `command` nor");
                self.find(message, Some("give one of the two".to_owned()), place);
                Program::Command(String::new())
            }
        };
        all_args.extend(args);
        for (index, arg) in all_args.iter().enumerate() {
            self.at(&workload, &format!("args[{index}]"), place_of(arg));
        }
        for (name, value) in &env {
            self.at(&workload, &format!("env.{name}"), place_of(value));
        }
        let mut all_env: BTreeMap<String, String> =
            env.into_iter().map(|(name, value)| (name, value.value)).collect();
        for name in &inherit {
            if let Some(value) = self.inherited(name) {
                all_env.entry(name.value.clone()).or_insert_with(|| reference::escape(&value));
            }
        }
        let mut secrets = BTreeMap::new();
        for name in &inherit_secrets {
            if let Some(value) = self.inherited(name) {
                secrets.insert(name.value.clone(), Secret::new(value));
            }
        }
        self.at(&workload, "ports", ports.first().and_then(place_of));
        if let Some(health) = &health {
            self.at(&workload, "health", place_of(health));
        }
        if let Some(ledger) = &ledger {
            self.at(&workload, "ledger", place_of(ledger));
        }
        let files = files.into_iter().map(|(name, file)| {
            self.at(&workload, &format!("files.{name}"), place_of(&file));
            let place = place_of(&file);
            let file = match file.value {
                RawFile::Text(contents) => super::File { contents, expand: true },
                RawFile::Path(path) => {
                    super::File { contents: self.contents(&path, place), expand: false }
                }
            };
            (name, file)
        });
        let files = files.collect();
        for (part, given) in [("start_limit", &start_limit), ("stop_limit", &stop_limit)] {
            self.at(&workload, part, given.as_ref().and_then(place_of));
        }
        self.at(&workload, "stop_signal", stop_signal.as_ref().and_then(place_of));
        self.at(&workload, "dir", dir.as_ref().and_then(place_of));
        let limits = Limits {
            start: self.limit("start_limit", start_limit),
            stop: self.limit("stop_limit", stop_limit),
            stop_signal: self.stop_signal(stop_signal),
        };
        Workload {
            name: workload,
            role: Role::Service,
            program,
            args: all_args.into_iter().map(|arg| arg.value).collect(),
            env: all_env,
            meant_service: None,
            traced,
            public: public.unwrap_or(false),
            secrets,
            ports: ports.into_iter().map(|port| port.value).collect(),
            health: health
                .map(|health| Health { port: health.value.port, path: health.value.path }),
            ledger: ledger.map(|port| port.value),
            instances: self.instances(instances),
            files,
            working_dir: Some(self.working_dir(dir)),
            limits,
            user: self.user(user),
        }
    }

    /// Traces that a service of the file begins by itself.
    fn own_traces(&mut self, raw: RawOwnTraces, workloads: &[Workload]) -> OwnTraces {
        let RawOwnTraces { service, resource } = raw;
        let names = workloads.iter().map(|workload| workload.name.clone());
        let known: Vec<String> =
            names.chain(workloads.iter().filter_map(Workload::service_name)).collect();
        // A service that names itself in its code is known by no file.
        let all_named = workloads.iter().all(|workload| workload.service_name().is_some());
        if all_named && !known.contains(&service.value) {
            let message = format!("`own_traces`: there is no service `{}`", service.value);
            let remedy = source::nearest_or_known(&service.value, known.iter().map(String::as_str));
            self.find(message, remedy, place_of(&service));
        }
        if resource.value.is_empty() {
            let message = "`own_traces`: `resource` is empty".to_owned();
            let remedy = "write the resource of the traces' first span; `*` stands for any text";
            self.find(message, Some(remedy.to_owned()), place_of(&resource));
        }
        OwnTraces { service: service.value, resource: resource.value }
    }

    /// Returns the working directory of a workload: the file's own, or one relative to it.
    fn working_dir(&mut self, dir: Option<Spanned<String>>) -> PathBuf {
        let Some(dir) = dir else { return self.dir.to_owned() };
        let path = self.dir.join(&dir.value);
        if !path.is_dir() {
            let message = format!("there is no directory `{}`", path.display());
            let remedy = "it is meant from this file's directory; make it, or correct the path";
            self.find(message, Some(remedy.to_owned()), place_of(&dir));
        }
        path
    }

    fn limit(&mut self, key: &str, given: Option<Spanned<String>>) -> Option<Duration> {
        let given = given?;
        let message = match humantime::parse_duration(&given.value) {
            Ok(limit) if !limit.is_zero() => return Some(limit),
            Ok(_) => format!("`{key}` should be more than no time"),
            Err(error) => format!("`{key}`: `{}` is not a duration ({error})", given.value),
        };
        self.find(message, Some("write for example 500ms, 30s or 2m".to_owned()), place_of(&given));
        None
    }

    fn stop_signal(&mut self, given: Option<Spanned<String>>) -> StopSignal {
        let Some(given) = given else { return StopSignal::default() };
        given.value.parse().unwrap_or_else(|error: ParseSignalError| {
            let known = StopSignal::ALL.map(StopSignal::name);
            let remedy = source::nearest_or_known(&given.value, known);
            self.find(error.to_string(), remedy, place_of(&given));
            StopSignal::default()
        })
    }

    fn user(&mut self, given: Option<Spanned<u32>>) -> Option<u32> {
        let given = given?;
        if given.value == 0 {
            let message = "`user`: 0 is root, as whom no workload runs".to_owned();
            let remedy =
                "write the number of the user that its image is made for, for example 10001";
            self.find(message, Some(remedy.to_owned()), place_of(&given));
            return None;
        }
        Some(given.value)
    }

    fn collector(&mut self, raw: RawCollector) -> Collector {
        let mut collector = Collector {
            env: raw.env,
            features: raw.has,
            traces_only: raw.traces_only.as_ref().is_some_and(|given| given.value),
            working_dir: Some(self.dir.to_owned()),
            instances: self.instances(raw.instances),
            ..Collector::default()
        };
        if let Some(config) = raw.config {
            let text = self.contents(&config.value, place_of(&config));
            let file = source::file_name(&self.dir.join(&config.value));
            collector.config = CollectorConfig { file, text };
        }
        if let (Some(given), false) = (&raw.traces_only, raw.command.is_empty()) {
            let message = "`collector.traces_only` is the built-in collector's, and `collector.command` names another one".to_owned();
            let remedy = "take away one of the two";
            self.find(message, Some(remedy.to_owned()), place_of(given));
        }
        let mut command = raw.command.into_iter();
        collector.command.extend(command.next().map(|program| self.program(program)));
        collector.command.extend(command);
        collector
    }

    fn instances(&mut self, given: Option<Spanned<u32>>) -> u32 {
        let Some(given) = given else { return 1 };
        if !INSTANCES.contains(&given.value) {
            let message = format!(
                "the number of instances should be a whole number from {} to {}, is `{}`",
                INSTANCES.start(),
                INSTANCES.end(),
                given.value
            );
            self.find(message, None, place_of(&given));
        }
        given.value
    }

    /// A program that is named by a relative path is meant from the file's directory; one without `/` is looked for
    /// in `PATH`.
    fn program(&self, program: String) -> String {
        if !program.contains('/') {
            return program;
        }
        let path: PathBuf = self.dir.join(&program);
        path.to_str().map_or(program, str::to_owned)
    }

    fn contents(&mut self, path: &str, place: Option<FilePlace>) -> String {
        read_to_string(&self.dir.join(path)).unwrap_or_else(|message| {
            let remedy = "relative paths are resolved against this file's directory";
            self.find(message, Some(remedy.to_owned()), place);
            String::new()
        })
    }

    fn inherited(&mut self, name: &Spanned<String>) -> Option<String> {
        let value = (self.variables)(&name.value);
        if value.is_none() {
            let message = format!(
                "environment variable `{}` is not set here, so nothing can be inherited",
                name.value
            );
            self.find(
                message,
                Some("set it, or give a value under `env`".to_owned()),
                place_of(name),
            );
        }
        value
    }

    fn at(&mut self, workload: &str, part: &str, place: Option<FilePlace>) {
        if let Some(place) = place {
            self.places.insert((workload.to_owned(), part.to_owned()), place);
        }
    }

    fn find(&mut self, message: String, suggestion: Option<String>, place: Option<FilePlace>) {
        self.findings.push(Finding::new(self.file, message).at(place).suggest(suggestion));
    }
}

/// Says of a file of another kind what it is, and what to do with it.
fn other_file(file: &str, kind: FileKind) -> Finding {
    let remedy = match kind {
        FileKind::Scenario => {
            "run it by `tracecheck run`, and name a system file in it by `system: { file: … }`"
        }
        FileKind::CollectorConfig => "name it in a system file by `collector: { config: … }`",
        _ => {
            "describe the services anew, each with its command, under `workloads`; `tracecheck init` writes a first system file"
        }
    };
    let message =
        format!("is {}; a system file is expected here, with `entry` and `workloads`", kind.name());
    Finding::new(file, message).suggest(remedy.to_owned())
}

fn read_to_string(path: &Path) -> Result<String, String> {
    fs::read_to_string(path)
        .map_err(|error| format!("`{}` {}", path.display(), source::unreadable(&error)))
}

#[cfg(test)]
mod tests;
