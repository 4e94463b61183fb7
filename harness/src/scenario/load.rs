//! Reads scenario files: the first syntax or type error of each file, then what is wrong in meaning, all of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_saphyr::Spanned;

use super::{
    Chain, DEFAULT_TIMEOUT, Fault, FaultKind, Naming, Propagation, Protocol, Request,
    SHARED_SERVICE, Scenario, SystemChoice, TraceIdFrom,
    fault::{IntakeFault, IntakeReply},
    file::{
        ChainFile, DurationText, ExpectFile, FaultFile, KindFile, NodeFile, RequestFile,
        RequireFile, ScenarioFile, SpanCountFile, SpanFile, StatsCountFile, SystemFile,
        TraceIdFromFile,
    },
};
use crate::{
    expectation::{DEFAULT_WITHIN, Expect, Matcher, Node, SpanCount},
    rule,
    secret::Secret,
    source::{self, Finding},
    stats::{StatsCount, StatsExpect},
    system::file as system_file,
};

/// Most sample apps in a chain.
const MAX_APPS: u32 = 20;
/// Most requests of one entry; beyond it a scenario is a load test.
const MAX_TIMES: u32 = 100_000;
/// Most requests at once.
const MAX_CONCURRENCY: u32 = 1_000;
/// Why scenarios could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something is wrong in the files, each with its place.
    #[error("{}", told(.0))]
    Invalid(Vec<Finding>),
}

fn told(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// Loads every scenario of the files and folders given, sorted by name. A folder gives its `*.yaml` and `*.yml` files
/// that are scenarios: those at its top level, by name.
///
/// # Errors
///
/// All findings of all files; a path that is missing, or gives no scenario at all, is one.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Scenario>, LoadError> {
    let mut findings = Vec::new();
    let mut scenarios: Vec<(Scenario, Spanned<String>)> = Vec::new();
    for path in files(paths, &mut findings) {
        let name = source::file_name(&path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                findings.push(Finding::new(name, format!("cannot be read: {error}")));
                continue;
            }
        };
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
    Ok(scenarios)
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
/// The first syntax or type error; else everything that is wrong in meaning.
pub fn parse(path: &Path, text: &str) -> Result<(Scenario, Spanned<String>), Vec<Finding>> {
    let file: ScenarioFile =
        source::read_yaml(&source::file_name(path), text).map_err(|finding| vec![finding])?;
    let mut resolver = Resolver { path, findings: Vec::new() };
    let name = file.name.clone();
    let scenario = resolver.scenario(file);
    if resolver.findings.is_empty() {
        return Ok((scenario, name));
    }
    resolver.findings.sort_by_key(|finding| finding.place);
    Err(resolver.findings)
}

/// Turns what is written into what is meant, and gathers what is wrong.
struct Resolver<'a> {
    path: &'a Path,
    findings: Vec<Finding>,
}

/// The workloads that a scenario may name, where they are known.
struct Workloads {
    services: Vec<String>,
    /// A service name that several workloads share.
    shared: Option<&'static str>,
    /// Whether they are the built-in sample apps, which take faults from a header.
    builtin: bool,
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
                "the description is empty: say in one sentence what must hold",
            );
        }
        let (system, workloads) = self.system(file.system);
        if file.requests.value.is_empty() {
            self.wrong(
                &file.requests,
                "no requests: a scenario that drives nothing proves nothing",
            );
        }
        for request in &file.requests.value {
            match (request.value.sampled.unwrap_or(true), file.expect.absent) {
                (false, false) => {
                    self.wrong(request, "an unsampled request leaves nothing to judge: say `expect: { absent: true }`");
                }
                (true, true) => self.wrong(
                    request,
                    "a sampled request leaves a trace: with `absent` say `sampled: false`",
                ),
                _ => {}
            }
        }
        let requests =
            file.requests.value.into_iter().map(|request| self.request(request)).collect();
        let faults: Vec<Fault> =
            file.faults.into_iter().filter_map(|fault| self.fault(fault, &workloads)).collect();
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
                self.wrong(&entry, "say why the rule may fail here");
            }
            tolerate.insert(entry.value.rule.value, entry.value.because);
        }
        let mut requires = BTreeMap::new();
        for entry in file.requires {
            let RequireFile { collector, because } = entry.value.clone();
            if because.trim().is_empty() {
                self.wrong(&entry, "say why the collector must have the feature");
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
            requires,
        }
    }

    fn system(&mut self, system: Option<Spanned<SystemFile>>) -> (SystemChoice, Workloads) {
        let Some(system) = system else { return self.chain(ChainFile::default()) };
        if system.value.chain.is_some() && system.value.file.is_some() {
            self.wrong(&system, "give either `chain` or `file`, not both");
        }
        match system.value.file {
            Some(file) => self.system_file(&file),
            None => self.chain(system.value.chain.unwrap_or_default()),
        }
    }

    fn system_file(&mut self, file: &Spanned<PathBuf>) -> (SystemChoice, Workloads) {
        let path = self.beside(&file.value);
        let mut services = Vec::new();
        match system_file::load(&path) {
            Ok(system) => {
                services.extend(system.service_names());
                // Its key is made for the run; any will do to see whether the rest fits together.
                if let Err(findings) = system.system(&Secret::new("check")) {
                    self.findings.extend(findings);
                }
            }
            Err(findings) => {
                self.wrong(
                    file,
                    format!("the system file {} is not usable (see below)", path.display()),
                );
                self.findings.extend(findings);
            }
        }
        (SystemChoice::File(path), Workloads { services, shared: None, builtin: false })
    }

    fn chain(&mut self, chain: ChainFile) -> (SystemChoice, Workloads) {
        let apps = match chain.apps {
            Some(apps) if (1..=MAX_APPS).contains(&apps.value) => apps.value,
            Some(apps) => {
                self.wrong(&apps, format!("a chain has 1 to {MAX_APPS} apps, not {}", apps.value));
                MAX_APPS.min(apps.value.max(1))
            }
            None => 2,
        };
        let collector_config = chain.collector_config.map(|config| {
            let path = self.beside(&config.value);
            if !path.is_file() {
                self.wrong(&config, format!("there is no file {}", path.display()));
            }
            path
        });
        let mut resolved = Chain {
            apps,
            services: chain.services.unwrap_or(Naming::Own),
            protocol: chain.protocol.unwrap_or(Protocol::Grpc),
            env: BTreeMap::new(),
            collector_config,
        };
        let names = resolved.app_names();
        for (app, variables) in chain.env {
            if app.value != "all" && !names.contains(&app.value) {
                let known = names.iter().map(String::as_str).chain(["all"]);
                let suggestion = source::nearest_or_known(&app.value, known);
                self.wrong_with(
                    &app,
                    format!("there is no app `{}` in the chain", app.value),
                    suggestion,
                );
            }
            resolved.env.insert(app.value, variables);
        }
        let shared = (resolved.services == Naming::Shared).then_some(SHARED_SERVICE);
        (SystemChoice::Chain(resolved), Workloads { services: names, shared, builtin: true })
    }

    /// A path in the file is meant from the file's own folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    fn request(&mut self, request: Spanned<RequestFile>) -> Request {
        let file = request.value;
        if !file.get.value.starts_with('/')
            || file.get.value.parse::<http::uri::PathAndQuery>().is_err()
        {
            self.wrong(&file.get, format!("`{}` is not a path: start it with `/`", file.get.value));
        }
        let mut within = |value: &Option<Spanned<u32>>, what: &str, most: u32| match value {
            Some(given) if (1..=most).contains(&given.value) => given.value,
            Some(given) => {
                self.wrong(given, format!("`{what}` is 1 to {most}, not {}", given.value));
                1
            }
            None => 1,
        };
        let times = within(&file.times, "times", MAX_TIMES);
        let concurrency = within(&file.concurrency, "concurrency", MAX_CONCURRENCY);
        if let Some(status) = &file.status {
            self.http_status(status);
            if file.any_status {
                self.wrong(status, "give either `status` or `any_status`, not both");
            }
        }
        for name in file.headers.keys() {
            if name.value.parse::<http::HeaderName>().is_err() {
                self.wrong(name, format!("`{}` is not a header name", name.value));
            }
        }
        let propagation = file.propagation.unwrap_or(Propagation::W3c);
        let trace_id_from = file.trace_id_from.and_then(|from| self.trace_id_from(from));
        if propagation == Propagation::None && trace_id_from.is_none() {
            self.wrong(&file.get, "with `propagation: none` the trace id must be read from the answer: give `trace_id_from`");
        }
        Request {
            path: file.get.value,
            times,
            concurrency: concurrency.min(times),
            status: match file.any_status {
                true => None,
                false => Some(file.status.map_or(200, |status| status.value)),
            },
            propagation,
            sampled: file.sampled.unwrap_or(true),
            trace_id_from,
            timeout: file.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
            headers: file.headers.into_iter().map(|(name, value)| (name.value, value)).collect(),
        }
    }

    fn http_status(&mut self, status: &Spanned<u16>) {
        if !(100..=599).contains(&status.value) {
            self.wrong(status, format!("{} is not an HTTP status", status.value));
        }
    }

    fn trace_id_from(&mut self, from: Spanned<TraceIdFromFile>) -> Option<TraceIdFrom> {
        match (&from.value.header, &from.value.json) {
            (Some(header), None) => Some(TraceIdFrom::Header(header.clone())),
            (None, Some(field)) => Some(TraceIdFrom::Json(field.clone())),
            _ => {
                self.wrong(&from, "give exactly one of `header` and `json`");
                None
            }
        }
    }

    fn fault(&mut self, fault: Spanned<FaultFile>, workloads: &Workloads) -> Option<Fault> {
        let file = &fault.value;
        let Some(at) = &file.at else {
            self.wrong(&fault, "`at` is missing: name the workload that breaks");
            return None;
        };
        let is_intake = at.value == "intake";
        let mut known: Vec<&str> = workloads.services.iter().map(String::as_str).collect();
        let is_service = known.contains(&at.value.as_str());
        known.extend(["intake", "collector"]);
        if !known.contains(&at.value.as_str()) {
            let suggestion = source::nearest_or_known(&at.value, known);
            self.wrong_with(
                at,
                format!("there is no workload `{}` in the system", at.value),
                suggestion,
            );
            return None;
        }
        if let Some(status) = &file.status {
            self.http_status(status);
        }
        let mut kinds = Vec::new();
        if is_intake {
            let reply = match (&file.status, file.reset) {
                (Some(_), true) => {
                    self.wrong(&fault, "give one of `status` and `reset`");
                    return None;
                }
                (Some(status), false) => Some(IntakeReply::Status(status.value)),
                (None, true) => Some(IntakeReply::Reset),
                (None, false) => None,
            };
            let delay = file.delay.map(|delay| delay.0);
            if file.next.is_some() && file.lasting.is_some() {
                self.wrong(&fault, "give one of `next` and `for`");
            }
            if reply.is_some() || delay.is_some() {
                kinds.push(FaultKind::Intake(IntakeFault {
                    reply,
                    delay,
                    next: file.next,
                    lasting: file.lasting.map(|lasting| lasting.0),
                }));
            }
        } else {
            if file.reset || file.next.is_some() || file.lasting.is_some() {
                self.wrong(&fault, "`reset`, `next` and `for` are for the intake; a service's connection is cut by `abort`");
            }
            kinds.extend(file.status.as_ref().map(|status| FaultKind::Status(status.value)));
            kinds.extend(file.delay.map(|delay| FaultKind::Delay(delay.0)));
        }
        kinds.extend(file.abort.then_some(FaultKind::Abort));
        kinds.extend(file.hang.then_some(FaultKind::Hang));
        kinds.extend(file.panic.then_some(FaultKind::Panic));
        if let Some(share) = &file.error_rate {
            if !(0.0..=1.0).contains(&share.value.rate) {
                self.wrong(share, format!("`rate` is 0 to 1, not {}", share.value.rate));
            }
            kinds.push(FaultKind::ErrorRate { rate: share.value.rate, seed: share.value.seed });
        }
        kinds.extend(file.stop.then_some(FaultKind::Stop));
        kinds.extend(file.pause.then_some(FaultKind::Pause));
        let kind = match kinds.len() {
            1 => kinds.swap_remove(0),
            0 => {
                self.wrong(
                    &fault,
                    format!("says nothing of how `{}` breaks: give `status`, `delay`, …", at.value),
                );
                return None;
            }
            _ => {
                self.wrong(&fault, "breaks in several ways: write a fault of its own for each");
                return None;
            }
        };
        let travels = !kind.needs_own_system();
        if travels && !is_service {
            self.wrong(
                at,
                format!("`{}` takes no faults by request: only `stop` and `pause`", at.value),
            );
        } else if travels && !workloads.builtin {
            self.wrong(at, format!("`{}` is no sample app, so it does not read faults from requests: only `stop` and `pause`", at.value));
        }
        if file.first.is_some() && !travels {
            self.wrong(&fault, "`first` is for faults that travel with the request");
        }
        Some(Fault { at: at.value.clone(), kind, first: file.first })
    }

    fn expect(&mut self, file: ExpectFile, workloads: &Workloads) -> Expect {
        if file.absent
            && let Some(tree) = &file.tree
        {
            self.wrong(tree, "a trace cannot be absent and have a tree");
        }
        Expect {
            within: file.within.map_or(DEFAULT_WITHIN, |within| within.0),
            tree: file.tree.map(|node| self.node(node, workloads)),
            absent: file.absent,
            spans: file.spans.into_iter().map(|count| self.span_count(count, workloads)).collect(),
            refused_attempts: file.refused_attempts,
            stats: self.stats(file.stats, file.stats_within),
        }
    }

    fn stats(
        &mut self,
        counts: Vec<Spanned<StatsCountFile>>,
        within: Option<Spanned<DurationText>>,
    ) -> Option<StatsExpect> {
        if let Some(within) = within.as_ref().filter(|_| counts.is_empty()) {
            self.wrong(
                within,
                "`stats_within` says how long to wait for `stats`, and none are asked for",
            );
        }
        if counts.is_empty() {
            return None;
        }
        let counts = counts.into_iter().map(|count| {
            if count.value.errors.is_some_and(|errors| errors > count.value.hits) {
                self.wrong(&count, "there are more `errors` than `hits`");
            }
            let file = count.value;
            StatsCount {
                service: file.service,
                name: file.name,
                resource: file.resource,
                kind: file.kind.map(|kind| kind.name().to_owned()),
                hits: file.hits,
                errors: file.errors,
            }
        });
        let counts = counts.collect();
        Some(StatsExpect { counts, within: within.map_or(Duration::ZERO, |within| within.value.0) })
    }

    /// A user's services may have other service names than their workloads; the built-in ones have not.
    fn workload(&mut self, at: &Spanned<String>, workloads: &Workloads) {
        let known = || workloads.services.iter().map(String::as_str).chain(workloads.shared);
        if workloads.builtin && !known().any(|name| name == at.value) {
            let suggestion = source::nearest_or_known(&at.value, known());
            self.wrong_with(
                at,
                format!("there is no service `{}` in the system", at.value),
                suggestion,
            );
        }
    }

    fn node(&mut self, node: Spanned<NodeFile>, workloads: &Workloads) -> Node {
        let file = &node.value;
        let kinds: Vec<(&str, &Spanned<String>)> = [
            ("server", &file.server),
            ("client", &file.client),
            ("internal", &file.internal),
            ("producer", &file.producer),
            ("consumer", &file.consumer),
        ]
        .into_iter()
        .filter_map(|(kind, at)| at.as_ref().map(|at| (kind, at)))
        .collect();
        let mut matcher = matcher(&file.is);
        match kinds.as_slice() {
            [(kind, at)] => {
                matcher.kind = Some((*kind).to_owned());
                matcher.at = Some(at.value.clone());
                let at: Spanned<String> = (*at).clone();
                self.workload(&at, workloads);
            }
            _ => self.wrong(
                &node,
                "give exactly one of `server`, `client`, `internal`, `producer` and `consumer`",
            ),
        }
        let more = file.more;
        let children =
            node.value.children.into_iter().map(|child| self.node(child, workloads)).collect();
        Node { span: matcher, children, more }
    }

    fn span_count(&mut self, count: Spanned<SpanCountFile>, workloads: &Workloads) -> SpanCount {
        let file = &count.value;
        let (at_least, at_most) = match (file.count, file.at_least, file.at_most) {
            (Some(count), None, None) => (count, Some(count)),
            (None, least, most) if least.is_some() || most.is_some() => (least.unwrap_or(0), most),
            _ => {
                self.wrong(&count, "give `count`, or `at_least` and `at_most`");
                (0, None)
            }
        };
        if at_most.is_some_and(|most| most < at_least) {
            self.wrong(&count, format!("`at_most` is less than `at_least` ({at_least})"));
        }
        if let Some(at) = &file.at {
            self.workload(at, workloads);
        }
        let kind = file.kind.map(KindFile::name);
        let span = Matcher {
            at: file.at.as_ref().map(|at| at.value.clone()),
            kind: kind.map(str::to_owned),
            ..matcher(&file.is)
        };
        SpanCount { span, at_least, at_most }
    }
}

fn matcher(file: &SpanFile) -> Matcher {
    Matcher {
        at: None,
        kind: None,
        name: file.name.clone(),
        resource: file.resource.clone(),
        span_type: file.span_type.clone(),
        error: file.error,
        status: file.status,
        meta: file.meta.clone(),
        at_least: file.at_least.map(|duration| duration.0),
        at_most: file.at_most.map(|duration| duration.0),
    }
}
