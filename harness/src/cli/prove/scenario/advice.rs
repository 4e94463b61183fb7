//! Which expectation would report a breakage: those that hold while nothing is broken are tried on what the breakage left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use harness::{
    case::DRIVER_SERVICE,
    expectation::Expect,
    judge, load,
    record::{CaseRecord, Record},
    scenario::{Naming, SystemChoice},
    trace::Span,
    verdict::Verdict,
};

use crate::cli::{init::quoted, record::seen};

/// Expectation or rule that would report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    /// Under `expect`, as it is written there; empty where it is not an expectation.
    pub(super) expect: String,
    /// In words.
    pub(super) text: String,
}

/// The smallest change to a scenario by which what a breakage left behind fails, while what a sound run left behind does not.
pub(super) fn advice(clean: &Record, broken: &Record) -> Option<Advice> {
    let mut strict = broken.clone();
    let tolerated: Vec<String> = strict.scenario.tolerate.keys().cloned().collect();
    for rule in tolerated {
        strict.scenario.tolerate.remove(&rule);
        if fails(&strict) {
            let text = format!("without `tolerate` of the rule `{rule}`");
            return Some(Advice { expect: String::new(), text });
        }
        strict.scenario.tolerate.clone_from(&broken.scenario.tolerate);
    }
    let catches = |expect: &String| {
        let Some(more) = read(&clean.scenario.system, expect) else { return false };
        let with = |record: &Record| {
            let mut record = record.clone();
            add(&mut record.scenario.expect, more.clone());
            record
        };
        !fails(&with(clean)) && fails(&with(broken))
    };
    let expect = candidates(clean).into_iter().find(catches)?;
    let text = match expect.starts_with("tree:") {
        true => "by `expect: tree`, the whole tree, as `tracecheck record` writes it".to_owned(),
        false => {
            format!("by `expect: {{ {expect} }}`")
        }
    };
    Some(Advice { expect, text })
}

fn fails(record: &Record) -> bool {
    judge::judge(record).verdict == Verdict::Fail
}

/// Reads what stands under `expect`, as a scenario of this system has it; `None` where it could not be written so.
pub(super) fn read(system: &SystemChoice, expect: &str) -> Option<Expect> {
    let system = match system {
        SystemChoice::File(path) => {
            let path = std::path::absolute(path).ok()?;
            format!("{{ file: {} }}", quoted(&path.display().to_string()))
        }
        SystemChoice::Chain(chain) => {
            let services = match chain.services {
                Naming::Own => "own",
                Naming::Shared => "shared",
            };
            format!("{{ chain: {{ apps: {}, services: {services} }} }}", chain.apps)
        }
    };
    let indented: Vec<String> = expect.lines().map(|line| format!("  {line}")).collect();
    let text = format!(
        "name: advice\ndescription: What would report it.\nsystem: {system}\nrequests: [{{ get: / }}]\nexpect:\n{}\n",
        indented.join("\n")
    );
    load::parse(Path::new("advice.yaml"), &text).ok().map(|(scenario, _)| scenario.expect)
}

fn add(expect: &mut Expect, more: Expect) {
    expect.services.extend(more.services);
    expect.spans.extend(more.spans);
    expect.linked.extend(more.linked);
    if more.tree.is_some() {
        expect.tree = more.tree;
    }
}

/// Expectations that a sound run fits, those that say least first.
fn candidates(clean: &Record) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(services) = common(clean, services).into_iter().reduce(|all, _| all) {
        all.push(format!("services: [{}]", services));
    }
    for details in [none, outcome, resource, resource_and_place] {
        let counts = common(clean, |record, of| counts(record, of, details));
        all.extend(counts.into_iter().map(|count| format!("spans: [{count}]")));
    }
    let times: Vec<u32> = clean.scenario.requests.iter().map(|one| one.times).collect();
    let tree = seen::expect(clean, &times, clean.scenario.expect.within);
    let tree: Vec<&str> = tree
        .lines()
        .skip_while(|line| !line.starts_with("expect:"))
        .skip(1)
        .filter(|line| !line.trim_start().starts_with("within:"))
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    all.push(tree.join("\n"));
    all
}

/// Keeps what `of_case` finds in every case.
fn common(
    record: &Record,
    of_case: impl Fn(&Record, &CaseRecord) -> BTreeSet<String>,
) -> BTreeSet<String> {
    let cases = record.cases.iter().map(|of| of_case(record, of));
    cases.reduce(|all, one| &all & &one).unwrap_or_default()
}

fn spans(of: &CaseRecord) -> impl Iterator<Item = &Span> {
    let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
    spans.filter(|span| span.service != DRIVER_SERVICE)
}

fn at(record: &Record, span: &Span) -> String {
    quoted(record.topology.workload_of(span).unwrap_or(&span.service))
}

fn services(record: &Record, of: &CaseRecord) -> BTreeSet<String> {
    let names: BTreeSet<String> = spans(of).map(|span| at(record, span)).collect();
    let names: Vec<String> = names.into_iter().collect();
    BTreeSet::from([names.join(", ")])
}

fn none(_: &Span) -> Option<String> {
    Some(String::new())
}

fn outcome(span: &Span) -> Option<String> {
    let status = span.http_status().map(|status| format!(", status: {status}"));
    Some(format!(", is: {{ error: {}{} }}", span.error, status.unwrap_or_default()))
}

fn resource(span: &Span) -> Option<String> {
    let is = !span.resource.is_empty() && seen::is_stable(&span.resource);
    is.then(|| format!(", is: {{ resource: {} }}", quoted(&span.resource)))
}

/// Formats the resource attributes that say where and as what the span's process ran.
fn resource_and_place(span: &Span) -> Option<String> {
    let keys = ["deployment.environment.name", "deployment.environment", "service.version"];
    let reported = keys.iter().filter_map(|key| Some((key, span.meta.get(*key)?)));
    let reported: Vec<String> =
        reported.map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
    (!reported.is_empty()).then(|| format!(", is: {{ meta: {{ {} }} }}", reported.join(", ")))
}

/// How many spans of each kind there are, as `spans` has it.
fn counts(
    record: &Record,
    of: &CaseRecord,
    details: fn(&Span) -> Option<String>,
) -> BTreeSet<String> {
    let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let kinds = ["server", "client", "internal", "producer", "consumer"];
    for span in spans(of).filter(|span| kinds.contains(&span.kind())) {
        if let Some(details) = details(span) {
            *counts.entry((at(record, span), span.kind().to_owned(), details)).or_default() += 1;
        }
    }
    let reported = counts.into_iter().map(|((at, kind, details), count)| {
        format!("{{ at: {at}, kind: {kind}{details}, count: {count} }}")
    });
    reported.collect()
}
