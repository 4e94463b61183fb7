//! Loads a scenario's expectations on traces and stats.

use std::time::Duration;

use serde_saphyr::Spanned;

use super::{
    Resolver, Workloads,
    file::{
        expect::{
            EventFile, ExpectFile, KindFile, LinkFile, NodeFile, OrderFile, OverlapFile,
            SelectFile, SpanCountFile, SpanFile, StatsCountFile,
        },
        value::DurationText,
    },
};
use crate::{
    expectation::{
        DEFAULT_WITHIN, EventMatcher, Expect, LinkMatcher, Matcher, Node, Order, Overlap, SpanCount,
    },
    source,
    stages::BalanceExpect,
    stats::{StatsCount, StatsExpect},
};

impl Resolver<'_> {
    pub(super) fn expect(&mut self, file: ExpectFile, workloads: &Workloads) -> Expect {
        if file.absent
            && let Some(tree) = &file.tree
        {
            self.wrong(tree, "`absent` cannot be combined with `tree`");
        }
        for (index, service) in file.services.iter().enumerate() {
            self.workload(service, workloads);
            if file.absent {
                self.wrong(service, "`absent` cannot be combined with `services`");
            }
            if file.services[..index].iter().any(|other| other.value == service.value) {
                self.wrong(service, format!("`{}` is named twice", service.value));
            }
        }
        if file.absent {
            self.absent_beside(&file);
        }
        if let Some(at) = &file.fails_at {
            self.workload(at, workloads);
        }
        Expect {
            within: file.within.map_or(DEFAULT_WITHIN, |within| within.0),
            tree: file.tree.map(|node| self.node(node, workloads, false)),
            services: file.services.into_iter().map(|service| service.value).collect(),
            absent: file.absent,
            spans: file.spans.into_iter().map(|count| self.span_count(count, workloads)).collect(),
            totals: file
                .totals
                .into_iter()
                .map(|count| self.span_count(count, workloads))
                .collect(),
            fails_at: file.fails_at.map(|at| at.value),
            linked: file.linked.into_iter().map(|node| self.node(node, workloads, false)).collect(),
            order: file.order.into_iter().map(|order| self.order(order, workloads)).collect(),
            overlap: file.overlap.into_iter().map(|one| self.overlap(one, workloads)).collect(),
            refused_attempts: file.refused_attempts,
            refused_exports: file.refused_exports,
            lost_by_senders: file.lost_by_senders,
            trace_metrics: file.trace_metrics,
            balance: file.balance.map(|balance| BalanceExpect {
                collector_instances: self.instances(balance.value.collector_instances.as_ref()),
            }),
            stats: self.stats(file.stats, file.stats_within),
        }
    }

    /// Reports expectations on spans beside `absent`.
    fn absent_beside(&mut self, file: &ExpectFile) {
        let beside = "`absent` cannot be combined with";
        if let Some(at) = &file.fails_at {
            self.wrong(at, format!("{beside} `fails_at`"));
        }
        for node in &file.linked {
            self.wrong(node, format!("{beside} `linked`"));
        }
        for order in &file.order {
            self.wrong(order, format!("{beside} `order`"));
        }
        for overlap in &file.overlap {
            self.wrong(overlap, format!("{beside} `overlap`"));
        }
        for total in &file.totals {
            self.wrong(total, format!("{beside} `totals`"));
        }
    }

    fn select(&mut self, file: &Spanned<SelectFile>, workloads: &Workloads) -> Matcher {
        let SelectFile { at, kind, is } = &file.value;
        if let Some(at) = at {
            self.workload(at, workloads);
        }
        let span = Matcher {
            at: at.as_ref().map(|at| at.value.clone()),
            kind: kind.map(|kind| kind.name().to_owned()),
            ..matcher(is)
        };
        if span == Matcher::default() {
            self.wrong(file, "this matches every span: restrict it by `at`, `kind` or `is`");
        }
        span
    }

    fn order(&mut self, file: Spanned<OrderFile>, workloads: &Workloads) -> Order {
        let (first, then) =
            (self.select(&file.value.first, workloads), self.select(&file.value.then, workloads));
        if first == then && first != Matcher::default() {
            self.wrong(
                &file.value.then,
                "`first` and `then` match the same spans, and no span begins after its own end: narrow one of them",
            );
        }
        let at_least = file.value.at_least.map(|least| least.0);
        let at_most = file.value.at_most.map(|most| most.0);
        if let (Some(least), Some(most)) = (at_least, at_most)
            && most < least
        {
            self.wrong(&file, format!("`at_most` ({most:?}) is less than `at_least` ({least:?})"));
        }
        Order { first, then, at_least, at_most }
    }

    fn overlap(&mut self, file: Spanned<OverlapFile>, workloads: &Workloads) -> Overlap {
        let OverlapFile { one, other } = &file.value;
        Overlap { one: self.select(one, workloads), other: self.select(other, workloads) }
    }

    fn stats(
        &mut self,
        counts: Vec<Spanned<StatsCountFile>>,
        within: Option<Spanned<DurationText>>,
    ) -> Option<StatsExpect> {
        if let Some(within) = within.as_ref().filter(|_| counts.is_empty()) {
            self.wrong(within, "`stats_within` requires `stats`");
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

    /// A user's services may have other service names than their workloads, which are known where the environment names them all.
    fn workload(&mut self, at: &Spanned<String>, workloads: &Workloads) {
        let known = || {
            let workloads = workloads.services.iter().chain(workloads.named.iter().flatten());
            workloads.map(String::as_str)
        };
        if let Some((workload, other)) = workloads.meant_twice(&at.value) {
            self.wrong_with(
                at,
                format!(
                    "`{}` is ambiguous: the workload of that name has the service name `{workload}`, and it is the service name of workload `{other}`",
                    at.value
                ),
                Some(format!(
                    "write `{workload}` for the one and `{other}` for the other, or give the workload the name of its service"
                )),
            );
        }
        // Where the system file itself is not sound, nothing is known.
        let all_known = workloads.named.is_some() && !workloads.services.is_empty();
        if all_known && !known().any(|name| name.eq_ignore_ascii_case(&at.value)) {
            let suggestion = source::nearest_or_known(&at.value, known());
            self.wrong_with(
                at,
                format!("there is no service `{}` in the system", at.value),
                suggestion,
            );
        }
    }

    fn node(&mut self, node: Spanned<NodeFile>, workloads: &Workloads, more: bool) -> Node {
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
        let more = file.more.unwrap_or(more);
        let children = node.value.children.into_iter();
        let children = children.map(|child| self.node(child, workloads, more)).collect();
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
        metrics: file.metrics.clone(),
        events: file.events.iter().cloned().map(event).collect(),
        links: file.links.iter().cloned().map(link).collect(),
        at_least: file.at_least.map(|duration| duration.0),
        at_most: file.at_most.map(|duration| duration.0),
    }
}

fn event(file: EventFile) -> EventMatcher {
    EventMatcher { name: file.name, attributes: file.attributes, count: file.count }
}

fn link(file: LinkFile) -> LinkMatcher {
    LinkMatcher { trace: file.trace, attributes: file.attributes, count: file.count }
}
