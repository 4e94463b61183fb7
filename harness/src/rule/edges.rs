//! The rule about the edges between services: what kind of span stands below what kind.

use std::{cell::LazyCell, collections::HashMap};

use harness_core::family::Family;

use super::{Checked, paths};
use crate::{
    case::{DRIVER_SERVICE, ServiceIdentity, View, shape::Expected},
    finding::Failure,
    in_progress::InProgress,
    trace::{Span, SpanId},
};

pub(super) fn wrong_service_edge(view: View<'_>) -> Checked {
    let (family, mut found) = (view.family(), Vec::new());
    for span in view.spans().iter().filter(|span| span.kind() == "server") {
        let Some(parent) = family.parent(span) else { continue };
        let (callee, caller) = (view.workload_of(span), view.workload_of(parent));
        let hops = &view.shape.hops;
        if is_handled_twice(span, parent) {
            let detail = format!(
                "{} stands within {}, of the same process",
                view.name(span),
                view.name(parent)
            );
            let cause = format!(
                "`{callee}` is instrumented twice, by an agent and a library or by a framework and its server, or something makes a second span of each"
            );
            found.push(Failure::found(detail).because(cause).about(callee).of_span(span.id));
            continue;
        }
        // Elsewhere a caller may do without a client span: an HTTP client that is not instrumented, a gateway.
        if hops.is_empty() {
            continue;
        }
        if parent.kind() != "client" {
            let detail = format!(
                "the parent of {} is {}, which is not a client span",
                view.name(span),
                view.name(parent)
            );
            let cause = format!("`{caller}` sent on a context that is not its outgoing call's");
            let wrong = Failure::found(detail).because(cause);
            found.push(wrong.about(caller).on_hop(caller, callee).of_span(span.id));
            continue;
        }
        let Some(index) = hops.iter().position(|hop| hop.workload == callee) else { continue };
        let expected = match index {
            0 => DRIVER_SERVICE,
            _ => hops[index - 1].workload.as_str(),
        };
        if caller != expected && hops[index].reached == Expected::Yes {
            let detail = format!(
                "the parent of {} is {} of `{caller}`, but `{callee}` is called by `{expected}`",
                view.name(span),
                view.name(parent)
            );
            let wrong = Failure::found(detail).about(callee);
            found.push(wrong.on_hop(expected, callee).of_span(span.id));
        }
    }
    found.extend(beside_their_servers(view, &family));
    if view.shape.hops.is_empty() {
        found.extend(without_their_kind(view, &family));
        found.extend(sent_on(view));
        found.extend(sent_on_by_a_service(view, &family));
    }
    found.extend(paths::unfit(view).iter().filter_map(|one| one.of_another_call(view)));
    Checked::Found(found)
}

/// Place at which a server answers: below which call, and in which process.
type ServerPlace<'a> = (Option<SpanId>, &'a str, Option<&'a str>);

fn place(span: &Span) -> ServerPlace<'_> {
    (span.parent_id, &span.service, span.instance())
}

fn is_one_process(one: &Span, other: &Span) -> bool {
    one.instance().is_some() && one.instance() == other.instance() && one.service == other.service
}

/// Returns whether two server spans of one process, one within the other, are of one request.
fn is_handled_twice(span: &Span, parent: &Span) -> bool {
    parent.kind() == "server" && is_one_process(span, parent) && span.resource == parent.resource
}

/// Finds calls that hang below another service's call, as the request hangs during which they were made.
fn beside_their_servers(view: View<'_>, family: &Family<'_>) -> Vec<Failure> {
    let servers = LazyCell::new(|| {
        let mut servers: HashMap<ServerPlace<'_>, Vec<_>> = HashMap::new();
        for server in view.service_spans().filter(|span| span.kind() == "server") {
            let times = (server.start, server.end(), server);
            servers.entry(place(server)).or_default().push(times);
        }
        let in_progress = servers.into_iter().map(|(place, spans)| (place, InProgress::new(spans)));
        in_progress.collect::<HashMap<_, _>>()
    });
    let is_own = |span: &&Span| matches!(span.kind(), "client" | "producer" | "internal");
    let calls = view.service_spans().filter(is_own);
    let found = calls.filter_map(|call| {
        let above = family.parent(call)?;
        if above.kind() != "client" || view.workload_of(above) == view.workload_of(call) {
            return None;
        }
        call.instance()?;
        let server = servers.get(&place(call))?.at(call.start, 0).next()?;
        let here = view.workload_of(call);
        let detail = format!(
            "{} hangs below {}, beside {}, during which it was made",
            view.name(call),
            view.name(above),
            view.name(server)
        );
        let cause = format!(
            "`{here}` {} with the context that it was sent, and not with that of its own span, or something changes parents",
            if call.kind() == "internal" { "begins it" } else { "makes the call" }
        );
        Some(Failure::found(detail).because(cause).about(here).of_span(call.id))
    });
    found.collect()
}

/// Finds answers to the harness's own request by services that it did not ask, beside the one of the service that it did: that one sends on
/// the context that it was sent.
fn sent_on(view: View<'_>) -> Vec<Failure> {
    let Some(entry) = view.case.entry(view.topology) else { return Vec::new() };
    let asked =
        |span: &&Span| span.kind() == "server" && span.parent_id == Some(view.case.driver_span);
    // A redirect leads the harness on, with the same context.
    let is_redirect =
        |span: &Span| span.http_status().is_some_and(|status| (300..400).contains(&status));
    let mut of_entry = view.service_spans().filter(asked);
    let answers = of_entry.any(|span| view.workload_of(span) == entry && !is_redirect(span));
    if !answers {
        return Vec::new();
    }
    let is_known = |name: &str| view.topology.services.iter().any(|one| one.workload == name);
    let others = view.service_spans().filter(asked).filter(|span| {
        let here = view.workload_of(span);
        here != entry && is_known(here)
    });
    let found = others.map(|span| {
        let here = view.workload_of(span);
        let detail = format!(
            "{} hangs below the harness's own request, which was sent to `{entry}`, not to `{here}`",
            view.name(span)
        );
        let cause = format!(
            "`{entry}` sends on the headers that it was sent (`traceparent`) with its own call, which leaves its client span out, or something between the two does"
        );
        Failure::found(detail).because(cause).about(entry).on_hop(entry, here).of_span(span.id)
    });
    found.collect()
}

/// Finds answers to a service's call by another service than the one that it called, beside that one's: it sends on the context that it
/// was sent. Whose addresses services are given shows who called whom.
fn sent_on_by_a_service(view: View<'_>, family: &Family<'_>) -> Vec<Failure> {
    let services = &view.topology.services;
    let of = |name: &str| services.iter().find(|one| one.workload == name);
    let calls = |one: &ServiceIdentity, to: &str| one.callees.iter().any(|callee| callee == to);
    let mut found = Vec::new();
    for call in view.service_spans().filter(|span| span.kind() == "client") {
        let answers = family.children(call.id).iter().filter(|span| span.kind() == "server");
        let Some(caller) = of(view.workload_of(call)).filter(|one| !one.callees.is_empty()) else {
            continue;
        };
        let (asked, others): (Vec<&Span>, Vec<&Span>) =
            answers.copied().partition(|answer| calls(caller, view.workload_of(answer)));
        for other in others {
            let here = view.workload_of(other);
            let Some(by) = asked.iter().find_map(|answer| {
                let by = of(view.workload_of(answer))?;
                (calls(by, here) && by.workload != here).then_some(&by.workload)
            }) else {
                continue;
            };
            let detail = format!(
                "{} hangs below {}, though `{}` is not given the address of `{here}`, and `{by}` is, which that call asked",
                view.name(other),
                view.name(call),
                caller.workload
            );
            let cause = format!(
                "`{by}` sends on the headers that it was sent (`traceparent`) with its own call, in place of its client span's context, or something between the two does"
            );
            let wrong = Failure::found(detail).because(cause).about(by);
            found.push(wrong.on_hop(by, here).of_span(other.id));
        }
    }
    found
}

/// Returns whether a span has what only a server's has.
fn is_like_a_server(span: &Span) -> bool {
    let has = |key: &str| span.meta.contains_key(key);
    has("http.route") && has("http.method") && span.http_status().is_some() && !has("url.full")
}

/// Returns whether a span is by its attributes of the call of a remote procedure that another one is of.
fn is_of_the_same_call(span: &Span, call: &Span) -> bool {
    let procedure = |span: &Span| {
        let text = |key: &str| span.meta.get(key).map(String::as_str);
        let system = text("rpc.system").or_else(|| text("rpc.system.name"))?.to_owned();
        let method = text("rpc.method")?;
        // Newer conventions put the service before the method's name.
        Some((
            system,
            match text("rpc.service") {
                Some(service) if !method.contains('/') => format!("{service}/{method}"),
                _ => method.to_owned(),
            },
        ))
    };
    procedure(span).is_some_and(|one| procedure(call) == Some(one))
}

/// Returns whether a span has what only a client's has.
fn is_like_a_client(span: &Span) -> bool {
    let has = |key: &str| span.meta.contains_key(key);
    has("http.method") && (has("url.full") || has("http.url")) && !has("http.route")
}

/// Finds spans of another kind on both sides of a call that say by their attributes what they are.
fn without_their_kind(view: View<'_>, family: &Family<'_>) -> Vec<Failure> {
    let mut found = Vec::new();
    for span in view.service_spans() {
        let Some(parent) = family.parent(span) else { continue };
        let (callee, caller) = (view.workload_of(span), view.workload_of(parent));
        if callee == caller || parent.service == DRIVER_SERVICE && parent.kind() != "client" {
            continue;
        }
        let is_internal = |span: &Span| matches!(span.kind(), "" | "internal" | "unspecified");
        // A server that another service's server stands below is right at an entry alone, whose client makes no spans.
        let is_inner = |server: &Span| {
            let above = family.parent(server);
            above.is_some_and(|above| {
                above.kind() == "server"
                    && view.workload_of(above) == caller
                    && above.resource != server.resource
            })
        };
        let is_call = |one: &Span| is_inner(one) && !is_like_a_server(one);
        if span.kind() == "server" && parent.kind() == "server" && is_call(parent) {
            let detail = format!(
                "{} is of kind server below a server span of its own service, and `{callee}` answers it with {}",
                view.name(parent),
                view.name(span)
            );
            let cause = format!(
                "`{caller}` makes its call with a span of the wrong kind, which is to be client"
            );
            let wrong = Failure::found(detail).because(cause).about(caller);
            found.push(wrong.on_hop(caller, callee).of_span(parent.id));
            continue;
        }
        let is_answer = || is_like_a_server(span) || is_of_the_same_call(span, parent);
        let (of, is) = if parent.kind() == "client" && span.kind() != "server" && is_answer() {
            (span, "a server's, which answers a call")
        } else if span.kind() == "server" && is_internal(parent) && is_like_a_client(parent) {
            (parent, "a client's, which is answered")
        } else {
            continue;
        };
        let here = view.workload_of(of);
        let detail =
            format!("{} is by its attributes {is}, and its kind is another", view.name(of));
        let cause = format!(
            "something between `{here}` and Datadog changes span kinds: a bridge from another format or library, or a processor"
        );
        let wrong = Failure::found(detail).because(cause).about(here);
        found.push(wrong.on_hop(caller, callee).of_span(of.id));
    }
    found
}
