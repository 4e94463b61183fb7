//! Rules about who a span says it is of.

mod swapped;

use std::collections::{BTreeMap, BTreeSet};

use super::{Checked, datadog::spans_count, ledgers::Enders, naming::is_nameless};
use crate::{
    case::{Capability, DRIVER_SERVICE, ServiceIdentity, View},
    finding::{Failure, Stage},
    trace::{PayloadForm, Span, Trace},
};

/// Returns whether two service names may be one: Datadog puts them into lower case, replaces what it does not take, and cuts them.
fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| -> Vec<char> {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (one, other) = (plain(one), plain(other));
    let cut = one.len().min(other.len());
    one == other || (cut >= 60 && one[..cut] == other[..cut])
}

fn is_meant(identity: &ServiceIdentity, service: &str) -> bool {
    identity.meant.as_ref().is_some_and(|meant| is_same_name(meant, service))
}

/// The service name that a workload is given, else the one that it says it has.
fn meant(identity: &ServiceIdentity) -> Option<&str> {
    identity.meant.as_deref().or(identity.service.as_deref())
}

/// The workload that a span is certainly of: the one whose ledger has it, else the one that runs the instance which it names, else the only
/// one of that service.
fn certainly_of<'a>(
    view: View<'a>,
    enders: &Enders<'_>,
    span: &Span,
) -> Option<&'a ServiceIdentity> {
    let services = &view.topology.services;
    if let Some(ender) = enders.ender(span.id) {
        return services.iter().find(|one| one.workload == ender);
    }
    let runs = |one: &&ServiceIdentity| {
        span.instance().is_some_and(|instance| one.instances.iter().any(|known| known == instance))
    };
    services.iter().find(runs).or_else(|| {
        let named = view.topology.workload_of(span)?;
        services.iter().find(|one| one.workload == named)
    })
}

pub(super) fn wrong_service(view: View<'_>) -> Checked {
    let mut found = of_known_workloads(view);
    if found.is_empty() {
        found.extend(of_a_stranger(view));
        found.extend(swapped::swapped(view));
    }
    Checked::Found(found)
}

/// The workload that says that it ended a span, and another one that the span is by its resource of.
fn anothers<'a>(view: View<'a>, enders: &Enders<'a>, span: &Span) -> Option<(&'a str, &'a str)> {
    let (ender, by_resource) = (enders.ender(span.id)?, view.topology.workload_of(span)?);
    (ender != by_resource && by_resource != DRIVER_SERVICE).then_some((ender, by_resource))
}

/// Returns whether the rule `wrong-service` finds something.
pub(super) fn is_wrong_service(view: View<'_>) -> bool {
    matches!(wrong_service(view), Checked::Found(found) if !found.is_empty())
}

/// Spans of which it is certain whose they are.
fn of_known_workloads(view: View<'_>) -> Vec<Failure> {
    let enders = Enders::of(view);
    let mut wrong: BTreeMap<(&str, &str), (&ServiceIdentity, Vec<&Span>)> = BTreeMap::new();
    let mut right: BTreeSet<&str> = BTreeSet::new();
    for span in view.spans() {
        let Some(identity) = certainly_of(view, &enders, span) else { continue };
        let Some(meant) = meant(identity) else { continue };
        // Where nothing is written down, only another one's name is wrong.
        let is_free = identity.meant.is_none() && anothers(view, &enders, span).is_none();
        if is_free || is_nameless(&span.service) {
            continue;
        }
        if is_same_name(meant, &span.service) {
            right.insert(&identity.workload);
        } else {
            let of = wrong.entry((&identity.workload, &span.service));
            of.or_insert_with(|| (identity, Vec::new())).1.push(span);
        }
    }
    // Elsewhere than in the chain an app may give the calls to a database a service of their own.
    let is_chain = !view.shape.hops.is_empty();
    wrong.retain(|(workload, _), (_, spans)| {
        let is_call = |span: &&Span| matches!(span.kind(), "client" | "producer");
        let is_anothers = |span: &&Span| anothers(view, &enders, span).is_some();
        is_chain
            || !right.contains(workload)
            || !spans.iter().all(is_call)
            || spans.iter().any(is_anothers)
    });
    let reported = wrong.into_iter().map(|((workload, service), (identity, spans))| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let meant = meant(identity).unwrap_or_default();
        let other = spans.iter().find_map(|span| anothers(view, &enders, span));
        let by_itself = identity.service.as_ref().is_some_and(|own| is_same_name(own, service));
        let cause = match (other, by_itself) {
            (Some((_, other)), _) => format!(
                "`{workload}` itself ended {}, so something between it and Datadog puts its spans under the resource of `{other}`: an agent that joins what several services send, or a processor that copies a resource to the spans of others",
                if spans.len() == 1 { "it" } else { "them" }
            ),
            (None, true) => format!(
                "`{workload}` itself calls its service so: look at its OTEL_SERVICE_NAME, at `service.name` in OTEL_RESOURCE_ATTRIBUTES, and at the resource that its code sets"
            ),
            (None, false) => format!(
                "`{workload}` itself does not call its service so: something between it and Datadog changes `service.name`"
            ),
        };
        Failure::found(format!(
            "{} of `{workload}` ({first}) reach Datadog as service `{service}`, and are meant to be of `{meant}`",
            spans_count(spans.len())
        ))
        .because(cause)
        .about(workload)
        .of_spans(&spans)
    });
    reported.collect()
}

/// A service that nobody was given the name of, where just one workload is not heard of: it took that one's place.
fn of_a_stranger(view: View<'_>) -> Option<Failure> {
    let services = &view.topology.services;
    if !view.capabilities.contains(&Capability::Exclusiveness) {
        return None;
    }
    let Trace { spans, .. } = view.evidence.trace.as_ref()?;
    let is_known = |span: &Span| {
        let name = &span.service;
        span.service == DRIVER_SERVICE
            || view.topology.workload_of(span).is_some()
            || services.iter().any(|one| {
                is_meant(one, name)
                    || one.service.as_ref().is_some_and(|service| is_same_name(service, name))
            })
    };
    let is_heard_of = |one: &ServiceIdentity| {
        spans.iter().any(|span| {
            is_meant(one, &span.service)
                || view.topology.workload_of(span) == Some(one.workload.as_str())
        })
    };
    let strangers: Vec<&Span> = spans.iter().filter(|span| !is_known(span)).collect();
    let names: BTreeSet<&str> = strangers.iter().map(|span| span.service.as_str()).collect();
    let silent: Vec<&ServiceIdentity> = services.iter().filter(|one| !is_heard_of(one)).collect();
    if let (Some(shown), 1, 2..) = (names.first(), names.len(), silent.len())
        && silent.len() == services.len()
        && !is_nameless(shown)
        && silent.iter().all(|one| one.meant.is_some())
    {
        return Some(all_renamed(&strangers, shown, &silent));
    }
    let ([silent], 1) = (silent.as_slice(), names.len()) else { return None };
    let meant = silent.meant.as_deref()?;
    // It was called by somebody who is known, so that it is no pseudo-service of a client's.
    let family = view.family();
    let entered = strangers.iter().find_map(|span| {
        let parent = family.parent(span)?;
        let is_call = matches!(parent.kind(), "client" | "producer") && is_known(parent);
        (matches!(span.kind(), "server" | "consumer") && is_call).then_some((*span, parent))
    });
    let (span, parent) = entered?;
    if is_nameless(&span.service) {
        return None;
    }
    let workload = &silent.workload;
    let found = Failure::found(format!(
        "{} of service `{}` answers {}, and nothing was heard of `{workload}`, which is meant to be service `{meant}`",
        view.name(span),
        span.service,
        view.name(parent)
    ));
    let cause = format!(
        "its SDK does not take OTEL_SERVICE_NAME (a resource set in code wins), or something between `{workload}` and Datadog changes `service.name`"
    );
    Some(found.because(cause).about(workload).of_span(span.id))
}

/// Reports that all services' spans came as of one other service.
fn all_renamed(spans: &[&Span], shown: &str, services: &[&ServiceIdentity]) -> Failure {
    let meant: Vec<String> =
        services.iter().filter_map(|one| Some(format!("`{}`", one.meant.as_deref()?))).collect();
    let detail = format!(
        "{} reach Datadog as service `{shown}`, and none as {}, which they are meant to be of",
        spans_count(spans.len()),
        meant.join(", ")
    );
    let cause = "something that all of them pass sets `service.name`: a processor of the collector, or a gateway before it";
    Failure::found(detail).because(cause).of_spans(spans)
}

/// Keys that have one value for each resource.
const OF_A_RESOURCE: [&str; 5] = [
    "service.version",
    "telemetry.sdk.language",
    "host.name",
    "deployment.environment",
    "deployment.environment.name",
];
/// Attributes beside which `host.name` may not be the host that Datadog gets.
const OTHER_HOSTS: [&str; 9] = [
    "host",
    "host.id",
    "datadog.host.name",
    "k8s.node.name",
    "cloud.provider",
    "cloud.platform",
    "cloud.account.id",
    "faas.name",
    "aws.ecs.launchtype",
];

pub(super) fn resource_mixed(view: View<'_>) -> Checked {
    let mut found = mixed_in_one_instance(view);
    found.extend(of_anothers_instance(view));
    found.extend(changed_on_the_way(view));
    found.extend(changed_for_some(view));
    Checked::Found(found)
}

/// Finds spans that one workload ended, and that name the instance of another one of the same service.
fn of_anothers_instance(view: View<'_>) -> Vec<Failure> {
    let enders = Enders::of(view);
    let mut mixed: BTreeMap<(&str, &str), Vec<&Span>> = BTreeMap::new();
    for span in view.service_spans() {
        let Some((ender, other)) = anothers(view, &enders, span) else { continue };
        let is_named_so = |one: &ServiceIdentity| {
            one.workload == ender
                && meant(one).is_some_and(|name| is_same_name(name, &span.service))
        };
        // Of those under another name, the rule about names says more.
        if view.topology.services.iter().any(is_named_so) {
            mixed.entry((ender, other)).or_default().push(span);
        }
    }
    let reported = mixed.into_iter().map(|((ender, other), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} that `{ender}` ended ({first}) came with the `service.instance.id` of `{other}`",
            spans_count(spans.len())
        ))
        .because(format!(
            "something between `{ender}` and Datadog puts its spans under the resource of `{other}`, or the two were given one `service.instance.id`"
        ))
        .about(ender)
        .of_spans(&spans)
    });
    reported.collect()
}

fn mixed_in_one_instance(view: View<'_>) -> Vec<Failure> {
    type Values<'a> = BTreeMap<&'a str, &'a Span>;
    let mut seen: BTreeMap<(&str, &str, &str), Values<'_>> = BTreeMap::new();
    for span in view.spans() {
        let Some(instance) = span.instance() else { continue };
        for key in OF_A_RESOURCE {
            let Some(value) = span.meta.get(key).filter(|value| !value.is_empty()) else {
                continue;
            };
            let values = seen.entry((&span.service, instance, key)).or_default();
            values.entry(value).or_insert(span);
        }
    }
    let mixed = seen.into_iter().filter(|(_, values)| values.len() > 1);
    let reported = mixed.map(|((service, instance, what), values)| {
        let first = values.values().next().map(|span| (view.workload_of(span), span.id));
        let reported = values.into_iter();
        let reported: Vec<String> =
            reported.map(|(value, span)| format!("`{value}` on {}", view.name(span))).collect();
        let found = Failure::found(format!(
            "the spans of one instance of `{service}` ({instance}) disagree in `{what}`: {}; a process has one resource, so something between `{service}` and Datadog changes it for some of its spans, or two processes were given one `service.instance.id`",
            reported.join(", ")
        ));
        match first {
            Some((workload, span)) => found.about(workload).of_span(span),
            None => found,
        }
    });
    reported.collect()
}

/// Compares a resource with the payload that was built from it.
fn changed_on_the_way(view: View<'_>) -> Vec<Failure> {
    let mut changed: BTreeMap<(&str, &str, &str, &str), Vec<&Span>> = BTreeMap::new();
    let made_by_an_exporter =
        |span: &&Span| span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
    for span in view.service_spans().filter(made_by_an_exporter) {
        let meta = |key: &str| span.meta.get(key).filter(|value| !value.is_empty());
        let env = meta("deployment.environment.name").or_else(|| meta("deployment.environment"));
        let host = meta("host.name").filter(|_| OTHER_HOSTS.iter().all(|key| meta(key).is_none()));
        // A run that was saved without it says nothing.
        let language = meta("telemetry.sdk.language").filter(|_| !span.language.is_empty());
        let pairs = [
            ("env", env, &span.env),
            ("host", host, &span.hostname),
            ("language", language, &span.language),
        ];
        for (what, said, got) in pairs {
            if let Some(said) = said.filter(|said| !is_same_name(said, got)) {
                let of = (view.workload_of(span), what, said.as_str(), got.as_str());
                changed.entry(of).or_default().push(span);
            }
        }
    }
    let reported = changed.into_iter().map(|((workload, what, said, got), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came with the {what} `{got}`, but their resource says `{said}`",
            spans_count(spans.len())
        ))
        .because(format!(
            "an exporter takes the {what} from there, so something between the collector and Datadog changes it"
        ))
        .about(workload)
        .of_spans(&spans)
        .at_stage(Some(Stage::BehindCollector))
    });
    reported.collect()
}

/// Finds workloads whose environment or version arrived otherwise than it was given, while it arrived as given of others. Where it
/// arrives otherwise of all, the collector may be meant to set it.
fn changed_for_some(view: View<'_>) -> Vec<Failure> {
    type Given<'a> = (&'a str, &'a str, &'a str);
    let enders = Enders::of(view);
    let mut as_given: BTreeSet<&str> = BTreeSet::new();
    let mut changed: BTreeMap<(Given<'_>, Option<&str>), Vec<&Span>> = BTreeMap::new();
    let of_an_sdk = |span: &&Span| span.meta.contains_key("otel.trace_id");
    for span in view.service_spans().filter(of_an_sdk) {
        let Some(identity) = certainly_of(view, &enders, span) else { continue };
        for (key, given) in &identity.meant_attributes {
            match span.meta.get(key) {
                Some(got) if got == given => _ = as_given.insert(key),
                got => {
                    let of = (key.as_str(), identity.workload.as_str(), given.as_str());
                    changed.entry((of, got.map(String::as_str))).or_default().push(span);
                }
            }
        }
    }
    changed.retain(|((key, ..), _), _| as_given.contains(key));
    let reported = changed.into_iter().map(|(((key, workload, given), got), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let got = got.map_or_else(|| format!("without `{key}`"), |got| format!("with the `{key}` `{got}`"));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came {got}, and `{workload}` is given `{given}` (OTEL_RESOURCE_ATTRIBUTES); what others are given arrives",
            spans_count(spans.len())
        ))
        .because(format!(
            "something between `{workload}` and Datadog changes its resource, or a resource that its code sets takes the place of the environment's"
        ))
        .about(workload)
        .of_spans(&spans)
    });
    reported.collect()
}
