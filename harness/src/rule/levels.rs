//! Conventions that a healthy system may break: warnings, unless a scenario has them fail or leaves them out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    case::DRIVER_SERVICE,
    finding::{Failure, Warning},
    record::Record,
    scenario::Level,
    trace::{PayloadForm, Span},
};

/// Name of the rule that attributes have the names of today's conventions.
const DEPRECATED_ATTRIBUTE: &str = "deprecated-attribute";
/// Name of the rule that names of spans have few values.
const HIGH_CARDINALITY_NAME: &str = "high-cardinality-name";
/// Name of the rule that all services have an environment and a version, where some do.
const SERVICE_TAGS: &str = "service-tags";
/// Name of the rule that each try of a call has a client span of its own.
const HIDDEN_TRY: &str = "hidden-try";
/// Name of the rule that a client span names as its peer who answers it.
const WRONG_PEER: &str = "wrong-peer";
/// Name of the rule that answers with 5xx are marked as errors at both ends.
const UNMARKED_FAILURE: &str = "unmarked-failure";
/// The rules that have levels.
pub(crate) const LEVELED: [&str; 6] = [
    DEPRECATED_ATTRIBUTE,
    HIGH_CARDINALITY_NAME,
    SERVICE_TAGS,
    HIDDEN_TRY,
    WRONG_PEER,
    UNMARKED_FAILURE,
];

/// How many breaches a warning names.
const NAMED: usize = 3;
/// Attributes of older conventions, with what took their place. Those are left out that an exporter makes itself of today's names.
const DEPRECATED: [(&str, &str); 8] = [
    ("db.operation", "db.operation.name"),
    ("db.statement", "db.query.text"),
    ("http.flavor", "network.protocol.version"),
    ("http.target", "url.path"),
    ("messaging.destination", "messaging.destination.name"),
    ("net.host.name", "server.address"),
    ("net.peer.name", "server.address"),
    ("net.peer.port", "server.port"),
];

/// Finds what the spans of a scenario's requests break, by rule and service, in words.
fn breaches(record: &Record) -> BTreeSet<(&'static str, String, String)> {
    let traces = record.cases.iter().filter_map(|of| of.evidence.trace.as_ref());
    let spans =
        || traces.clone().flat_map(|trace| &trace.spans).filter(|span| is_from_an_sdk(span));
    let asked_for: BTreeSet<&str> =
        record.scenario.requests.iter().flat_map(|request| ids_of(&request.path)).collect();
    let mut found = BTreeSet::new();
    let mut deprecated = BTreeMap::<_, BTreeSet<&(&str, &str)>>::new();
    for span in spans() {
        let service = || span.service.clone();
        let old = DEPRECATED.iter().filter(|(old, _)| span.meta.contains_key(*old));
        deprecated.entry((service(), library(span))).or_default().extend(old);
        let is_query =
            ["db.system.name", "db.system"].iter().any(|key| span.meta.contains_key(*key));
        let names = [("a resource name", &span.resource), ("an operation name", &span.name)];
        for (of, name) in names.into_iter().filter(|_| !is_query) {
            if let Some(word) = variable_word(name, &asked_for) {
                let what = format!("{of} with `{word}` in it");
                found.insert((HIGH_CARDINALITY_NAME, service(), shortened(what)));
            }
        }
    }
    deprecated.retain(|_, old| !old.is_empty());
    let deprecated = deprecated
        .into_iter()
        .map(|((service, library), old)| (DEPRECATED_ATTRIBUTE, service, old_names(library, &old)));
    found.extend(deprecated);
    for tag in ["env", "version"] {
        let has = if tag == "env" { has_env } else { has_version };
        let mut reported: BTreeMap<&str, bool> = BTreeMap::new();
        for span in spans() {
            *reported.entry(&span.service).or_default() |= has(span);
        }
        if reported.values().any(|has| *has) {
            let lacking = reported.into_iter().filter(|(_, has)| !has);
            found.extend(lacking.map(|(service, _)| {
                (SERVICE_TAGS, service.to_owned(), format!("no `{tag}`, which other services have"))
            }));
        }
    }
    found.extend(mixed_envs(spans()));
    let hidden = traces.clone().flat_map(super::tries::hidden);
    found.extend(hidden.map(|(service, what)| (HIDDEN_TRY, service, what)));
    let peers = traces.clone().flat_map(super::peers::wrong);
    found.extend(peers.map(|(service, what)| (WRONG_PEER, service, what)));
    let unmarked = traces.clone().flat_map(super::unmarked::failures);
    found.extend(unmarked.map(|(service, what)| (UNMARKED_FAILURE, service, what)));
    found
}

/// The instrumentation that made a span; empty where it is not known.
fn library(span: &Span) -> &str {
    let named = ["otel.scope.name", "otel.library.name"].iter().find_map(|key| span.meta.get(*key));
    named.map_or("", String::as_str)
}

/// Says which attributes of older conventions spans of one instrumentation have, and how it is made to write today's: most that write
/// both have one switch for it.
fn old_names(library: &str, old: &BTreeSet<&(&str, &str)>) -> String {
    let names = old.iter().map(|(old, new)| format!("`{old}` (now `{new}`)"));
    let names = names.collect::<Vec<_>>().join(", ");
    let of = |prefixes: &[&str]| {
        old.iter().any(|(old, _)| prefixes.iter().any(|prefix| old.starts_with(prefix)))
    };
    let switch = match (of(&["http.", "net."]), of(&["db."])) {
        (true, true) => "; OTEL_SEMCONV_STABILITY_OPT_IN=http,database makes many write today's",
        (true, false) => "; OTEL_SEMCONV_STABILITY_OPT_IN=http makes many write today's",
        (false, true) => "; OTEL_SEMCONV_STABILITY_OPT_IN=database makes many write today's",
        (false, false) => "",
    };
    match library {
        "" => format!("attributes of older conventions: {names}{switch}"),
        library => format!("attributes of older conventions by `{library}`: {names}{switch}"),
    }
}

/// Finds the services whose environment is not that of most: what Datadog shows of one environment begins or ends there.
fn mixed_envs<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<(&'static str, String, String)> {
    let mut by_env: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for span in spans.filter(|span| has_env(span)) {
        by_env.entry(&span.env).or_default().insert(&span.service);
    }
    let usual = by_env.iter().max_by_key(|(env, services)| (services.len(), Reverse(*env)));
    let Some((usual, of_most)) = usual else { return Vec::new() };
    let of_most: Vec<String> = of_most.iter().map(|service| format!("`{service}`")).collect();
    let others = by_env.iter().filter(|(env, _)| *env != usual);
    let found = others.flat_map(|(env, services)| {
        let what = format!("the `env` `{env}`, and `{usual}` is that of {}", of_most.join(", "));
        services.iter().map(move |service| (SERVICE_TAGS, (*service).to_owned(), what.clone()))
    });
    found.collect()
}

fn has_env(span: &Span) -> bool {
    !matches!(span.env.as_str(), "" | "none")
}

fn has_version(span: &Span) -> bool {
    ["service.version", "version"].iter().any(|key| span.meta.contains_key(*key))
}

fn is_from_an_sdk(span: &Span) -> bool {
    span.service != DRIVER_SERVICE
        && span.form == PayloadForm::Datadog
        && span.meta.contains_key("otel.trace_id")
}

/// The numbers of a request's path that are long enough to be of one thing alone.
fn ids_of(path: &str) -> impl Iterator<Item = &str> {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/').filter(|part| part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A part of a name that looks like an id: one of the request's, many digits, or many hex digits with numbers among them.
fn variable_word<'n>(name: &'n str, asked_for: &BTreeSet<&str>) -> Option<&'n str> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).find(|word| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits == word.len() && digits >= 5)
            || asked_for.contains(word)
            || (is_hex && word.len() >= 12 && digits >= 3)
    })
}

fn shortened(text: String) -> String {
    if text.chars().count() <= 100 { text } else { text.chars().take(99).chain(['…']).collect() }
}

/// The level of a rule in a scenario.
fn level(record: &Record, rule: &str) -> Level {
    let scenario = &record.scenario;
    match scenario.levels.get(rule) {
        _ if scenario.tolerate.contains_key(rule) => Level::Off,
        Some(leveled) => leveled.level,
        None => Level::Warn,
    }
}

/// The failures of a scenario that has such rules fail.
pub(crate) fn failures(record: &Record) -> Vec<Failure> {
    let fails = |rule: &str| level(record, rule) == Level::Error;
    if !LEVELED.iter().any(|rule| fails(rule)) {
        return Vec::new();
    }
    let found = breaches(record).into_iter().filter(|(rule, ..)| fails(rule));
    let reported = found.map(|(rule, service, what)| {
        Failure::new(rule, format!("`{service}` has {what}")).about(&service)
    });
    reported.collect()
}

/// Returns a warning of the leveled rules that spans of these scenarios break, unless a scenario sets another level.
pub fn warning<'r>(system: &str, records: impl IntoIterator<Item = &'r Record>) -> Option<Warning> {
    let mut found = BTreeSet::new();
    for record in records {
        let warned = breaches(record).into_iter();
        found.extend(warned.filter(|(rule, ..)| level(record, rule) == Level::Warn));
    }
    if found.is_empty() {
        return None;
    }
    // Old names are many, and say least of what one sees in Datadog.
    let mut each: Vec<_> = found.iter().collect();
    each.sort_by_key(|(rule, ..)| *rule == DEPRECATED_ATTRIBUTE);
    // What several services have alike, as they do of one instrumentation, is one thing to mend.
    let mut alike: Vec<(&str, Vec<String>, &str)> = Vec::new();
    for (rule, service, what) in each {
        let service = format!("`{service}`");
        match alike.iter_mut().find(|(of, _, same)| of == rule && same == what) {
            Some((_, services, _)) => services.push(service),
            None => alike.push((*rule, vec![service], what.as_str())),
        }
    }
    let reported = alike.into_iter().map(|(rule, services, what)| {
        let has = if services.len() == 1 { "has" } else { "have" };
        format!("{rule}: {} {has} {what}", services.join(", "))
    });
    let mut named: Vec<String> = reported.collect();
    let more = named.split_off(NAMED.min(named.len()));
    let others = match more.len() {
        0 => String::new(),
        others => format!("; and {others} more (-v has them)"),
    };
    let text = format!(
        "{system}: {}{others}; it fails nothing, and `levels` of a scenario has it fail, or leaves it out",
        named.join("; ")
    );
    Some(Warning { text, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        judge::{judge, testing::World},
        scenario::Leveled,
        trace::SpanId,
        verdict::Verdict,
    };

    fn world(change: impl FnOnce(&mut Span)) -> World {
        let mut world = World::healthy();
        let trace = world.evidence().trace.as_mut().unwrap();
        change(trace.spans.iter_mut().find(|span| span.service == "sample-app-2").unwrap());
        world
    }

    fn leveled(world: &mut World, rule: &str, level: Level) {
        let because = "it is so here".to_owned();
        world.record.scenario.levels.insert(rule.to_owned(), Leveled { level, because });
    }

    #[test]
    fn a_sound_trace_is_not_warned_of() {
        assert_eq!(warning("chain", [&World::healthy().record]), None);
    }

    #[test]
    fn each_breach_is_a_warning_fails_where_it_is_to_and_is_left_out_where_it_is_to() {
        type Change = fn(&mut Span);
        let breaches: [(&str, Change, &str); 4] = [
            (
                DEPRECATED_ATTRIBUTE,
                |span| _ = span.meta.insert("net.peer.name".to_owned(), "pay".to_owned()),
                "`sample-app-2` has attributes of older conventions: `net.peer.name` (now `server.address`); OTEL_SEMCONV_STABILITY_OPT_IN=http makes many write today's",
            ),
            (
                HIGH_CARDINALITY_NAME,
                |span| span.resource = "GET /orders/5f1d7a2b9c3e".to_owned(),
                "`sample-app-2` has a resource name with `5f1d7a2b9c3e` in it",
            ),
            (
                SERVICE_TAGS,
                |span| span.env = "prod".to_owned(),
                "`sample-app-1` has no `env`, which other services have",
            ),
            (
                SERVICE_TAGS,
                |span| _ = span.meta.insert("service.version".to_owned(), "2".to_owned()),
                "`sample-app-1` has no `version`, which other services have",
            ),
        ];
        for (rule, change, reported) in breaches {
            let mut world = world(change);
            assert_eq!(judge(&world.record).verdict, Verdict::Pass, "{rule}");
            let warned = warning("chain", [&world.record]).unwrap_or_default().text;
            assert!(warned.contains(&format!("{rule}: {reported}")), "{warned}");
            leveled(&mut world, rule, Level::Error);
            let result = judge(&world.record);
            let [only] = &result.failures[..] else { panic!("{result:#?}") };
            assert_eq!((&*only.rule, &*only.detail), (rule, reported));
            assert_eq!((result.verdict, warning("chain", [&world.record])), (Verdict::Fail, None));
            leveled(&mut world, rule, Level::Off);
            assert_eq!(warning("chain", [&world.record]), None);
            assert_eq!(judge(&world.record).verdict, Verdict::Pass);
        }
    }

    #[test]
    fn tries_below_one_client_span_are_warned_of_where_the_call_got_through() {
        let world = |first: f64, is_error: bool| {
            let mut world = World::healthy();
            let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
            let call = spans
                .iter_mut()
                .find(|span| span.kind() == "client" && span.service == "sample-app-1");
            let call = call.unwrap();
            call.error = is_error;
            let id = call.id;
            let answer = spans.iter().find(|span| span.parent_id == Some(id)).unwrap();
            let mut tried = answer.clone();
            (tried.id, tried.duration) = (SpanId(0xee), 1);
            tried.start = answer.start - 2;
            tried.metrics.insert("http.status_code".to_owned(), first);
            tried.error = first >= 500.0;
            spans.insert(0, tried);
            world
        };
        let warned = |world: &World| warning("chain", [&world.record]).map(|warning| warning.text);
        let reported = warned(&world(503.0, false)).unwrap_or_default();
        let tried = "hidden-try: `sample-app-1` has a try of";
        assert!(reported.contains(tried) && reported.contains("answered 503"), "{reported}");
        let mut beside = world(503.0, false);
        let spans = &mut beside.record.cases[0].evidence.trace.as_mut().unwrap().spans;
        let old = DEPRECATED.iter().map(|(old, _)| ((*old).to_owned(), "x".to_owned()));
        spans.last_mut().unwrap().meta.extend(old);
        let reported = warned(&beside).unwrap_or_default();
        assert!(reported.contains(tried), "old names stand behind it: {reported}");
        let twice = warned(&world(200.0, false)).unwrap_or_default();
        assert!(twice.contains("answered twice (first 200)"), "{twice}");
        // A redirect is no try, and a call that failed in the end hides nothing.
        assert_eq!((warned(&world(302.0, false)), warned(&world(503.0, true))), (None, None));
    }

    #[test]
    fn services_of_another_environment_than_most_are_named_with_it() {
        let mut world = World::healthy();
        let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
        for span in spans.iter_mut().filter(|span| span.service != DRIVER_SERVICE) {
            span.env = "prod".to_owned();
        }
        assert_eq!(warning("chain", [&world.record]), None);
        let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
        let of_first = spans.iter_mut().filter(|span| span.service == "sample-app-1");
        of_first.for_each(|span| span.env = "staging".to_owned());
        let reported =
            "`sample-app-1` has the `env` `staging`, and `prod` is that of `sample-app-2`";
        let warned = warning("chain", [&world.record]).unwrap_or_default().text;
        assert!(warned.contains(&format!("service-tags: {reported};")), "{warned}");
        leveled(&mut world, SERVICE_TAGS, Level::Error);
        let result = judge(&world.record);
        let [only] = &result.failures[..] else { panic!("{result:#?}") };
        assert_eq!((&*only.detail, result.verdict), (reported, Verdict::Fail));
    }

    #[test]
    fn a_warning_keeps_what_it_only_counts() {
        let mut many = World::healthy();
        let spans = &mut many.evidence().trace.as_mut().unwrap().spans;
        let of_last = spans.iter().find(|span| span.service == "sample-app-2").unwrap().clone();
        spans.extend((1..=5).map(|number| {
            let mut span = of_last.clone();
            span.meta.insert("otel.scope.name".to_owned(), format!("library-{number}"));
            span.meta.insert("messaging.destination".to_owned(), "x".to_owned());
            span
        }));
        let warned = warning("chain", [&many.record]).unwrap();
        assert!(warned.text.contains("; and 2 more (-v has them); it fails nothing"), "{warned:?}");
        let of = |number: u32| {
            format!(
                "deprecated-attribute: `sample-app-2` has attributes of older conventions by `library-{number}`: `messaging.destination` (now `messaging.destination.name`)"
            )
        };
        assert_eq!(warned.more, [of(4), of(5)]);
    }

    #[test]
    fn old_names_of_one_instrumentation_are_one_warning() {
        let mut world = World::healthy();
        let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
        for span in spans.iter_mut().filter(|span| span.service != DRIVER_SERVICE) {
            let library = "opentelemetry.instrumentation.fastapi";
            span.meta.insert("otel.scope.name".to_owned(), library.to_owned());
            for old in ["http.flavor", "http.target", "net.peer.port"] {
                span.meta.insert(old.to_owned(), "x".to_owned());
            }
        }
        let warned = warning("chain", [&world.record]).unwrap();
        assert_eq!(
            warned.text,
            "chain: deprecated-attribute: `sample-app-1`, `sample-app-2` have attributes of older conventions by \
             `opentelemetry.instrumentation.fastapi`: `http.flavor` (now `network.protocol.version`), `http.target` (now `url.path`), \
             `net.peer.port` (now `server.port`); OTEL_SEMCONV_STABILITY_OPT_IN=http makes many write today's; it fails nothing, and \
             `levels` of a scenario has it fail, or leaves it out"
        );
        assert!(warned.more.is_empty());
    }

    #[test]
    fn words_and_short_numbers_are_no_ids() {
        for sound in ["GET /v2/orders/{id}", "GET /2026", "feedface", "SELECT shop.orders", "a1b2"]
        {
            assert_eq!(variable_word(sound, &BTreeSet::new()), None, "{sound}");
        }
        for id in ["GET /orders/123456", "x 6f1d7a2b-9c3e-4d5f-8a7b-1c2d3e4f5a6b"] {
            assert!(variable_word(id, &BTreeSet::new()).is_some(), "{id}");
        }
        let asked_for: BTreeSet<&str> = ids_of("/shops/7/orders/831?page=412").collect();
        assert_eq!(asked_for, BTreeSet::from(["831"]));
        assert_eq!(variable_word("GET /stock/831", &asked_for), Some("831"));
        assert_eq!(variable_word("GET /stock/832", &asked_for), None);
    }

    #[test]
    fn two_server_spans_at_once_of_one_request_are_an_instrumentation_that_stands_twice() {
        let mut world = World::healthy();
        let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
        let answer = spans.iter().find(|span| span.id == SpanId(0xb1)).unwrap().clone();
        let mut within = answer.clone();
        (within.id, within.start, within.duration) =
            (SpanId(0xee), answer.start + 1, answer.duration - 2);
        let mut work = answer.clone();
        (work.id, work.parent_id) = (SpanId(0xef), Some(SpanId(0xee)));
        work.meta.insert("span.kind".to_owned(), "internal".to_owned());
        spans.extend([within, work]);
        let warned = warning("chain", [&world.record]).unwrap_or_default().text;
        assert!(warned.contains("`sample-app-2` is instrumented twice"), "{warned}");
        assert!(!warned.contains("sent again"), "{warned}");
    }

    #[test]
    fn a_peer_that_is_not_who_answers_and_failures_without_a_mark_are_warned_of() {
        let of = |id: u64, change: &dyn Fn(&mut Span)| {
            let mut world = World::healthy();
            let spans = &mut world.evidence().trace.as_mut().unwrap().spans;
            change(spans.iter_mut().find(|span| span.id == SpanId(id)).unwrap());
            warning("chain", [&world.record]).unwrap_or_default().text
        };
        let peer = |name: &'static str| {
            of(0xa2, &|span| _ = span.meta.insert("peer.service".to_owned(), name.to_owned()))
        };
        let warned = peer("warehouse");
        let reported = "wrong-peer: `sample-app-1` has a call `GET` with the `peer.service` `warehouse`, which `sample-app-2` answered";
        assert!(warned.contains(reported), "{warned}");
        assert_eq!(
            (peer("sample-app-2"), peer("sample-app-2:8080")),
            (String::new(), String::new())
        );
        let failed = |span: &mut Span| {
            span.metrics.insert("http.status_code".to_owned(), 502.0);
        };
        let warned = of(0xa2, &failed);
        let reported = "unmarked-failure: `sample-app-1` has a call `GET` that was answered 502, and is no error";
        assert!(warned.contains(reported), "{warned}");
        let warned = of(0xb1, &|span| {
            failed(span);
            span.meta.insert("otel.status_code".to_owned(), "Ok".to_owned());
        });
        assert!(warned.contains("an answer 502 of `GET /work` that is no error"), "{warned}");
        let marked = of(0xa2, &|span| {
            failed(span);
            span.error = true;
        });
        assert_eq!(marked, "");
    }
}
