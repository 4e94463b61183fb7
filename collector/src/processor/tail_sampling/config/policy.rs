//! Settings of one policy, with those that it is made of.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::settings::Diagnostics;
use crate::settings::pattern;

/// Condition on traces to keep, or to drop.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    /// Its name, in the self-metrics and the ledger.
    pub(crate) name: String,
    /// Type of what it looks at. Its settings are under the key of this name.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// Time from a trace's first start to its last end.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) latency: Latency,
    /// An integer, of a resource or of a span.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) numeric_attribute: NumericAttribute,
    /// A part of the traces, by a hash of their ids.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) probabilistic: Probabilistic,
    /// Status of a span.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) status_code: StatusCode,
    /// A text, of a resource or of a span.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) string_attribute: StringAttribute,
    /// As many traces as this number of spans allows.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) rate_limiting: RateLimiting,
    /// As many traces as this number of bytes allows.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) bytes_limiting: BytesLimiting,
    /// Number of spans of the trace.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) span_count: SpanCount,
    /// A member of a span's `tracestate`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) trace_state: TraceState,
    /// A boolean, of a resource or of a span.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) boolean_attribute: BooleanAttribute,
    /// Not supported.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(test, schemars(skip))]
    ottl_condition: OttlCondition,
    /// All of several policies.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) and: And,
    /// The opposite of a policy.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) not: Not,
    /// Traces to which all of several policies apply are dropped, whatever others say.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) drop: Drop,
    /// The first of several policies that samples the trace, if that has spans left in this second.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) composite: Composite,
}

/// Types of policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// None: only where a policy that is not used is printed.
    #[default]
    #[serde(rename = "")]
    #[cfg_attr(test, schemars(skip))]
    None,
    AlwaysSample,
    Latency,
    NumericAttribute,
    Probabilistic,
    StatusCode,
    StringAttribute,
    RateLimiting,
    BytesLimiting,
    SpanCount,
    TraceState,
    TraceFlags,
    BooleanAttribute,
    #[cfg_attr(test, schemars(skip))]
    OttlCondition,
    And,
    Not,
    Drop,
    Composite,
}

/// A range of latencies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Latency {
    /// Longer than this many milliseconds.
    pub(crate) threshold_ms: i64,
    /// At most this many milliseconds. Default 0: any.
    pub(crate) upper_threshold_ms: i64,
}

/// A range of an integer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NumericAttribute {
    /// The attribute's key.
    pub(crate) key: String,
    /// At least this. Default 0: any, as in the Collector.
    pub(crate) min_value: i64,
    /// At most this. Default 0: any, as in the Collector.
    pub(crate) max_value: i64,
    /// Samples traces in which it is nowhere so.
    pub(crate) invert_match: bool,
}

/// A part of the traces.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Probabilistic {
    /// Text that is hashed with the trace id. Default: the Collector's.
    pub(crate) hash_salt: String,
    /// How many of a hundred traces are sampled; 100 and more are all of them. Default 0: none.
    pub(crate) sampling_percentage: f64,
}

/// Statuses of spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StatusCode {
    /// Statuses, of which a span has one.
    pub(crate) status_codes: Vec<Code>,
}

/// Status of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Code {
    Ok,
    Error,
    Unset,
}

/// Values of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StringAttribute {
    /// The attribute's key.
    pub(crate) key: String,
    /// Its values, or regular expressions that find something in it.
    pub(crate) values: Vec<String>,
    /// Whether `values` are regular expressions.
    pub(crate) enabled_regex_matching: bool,
    /// Taken, and of no effect: results are not kept.
    pub(crate) cache_max_size: i64,
    /// Samples traces in which it is nowhere so.
    pub(crate) invert_match: bool,
}

/// A number of spans a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RateLimiting {
    /// Spans a second, in the long run.
    pub(crate) spans_per_second: u32,
    /// Spans at once; larger traces are never sampled. Default 0: twice `spans_per_second`.
    pub(crate) burst_capacity: u32,
}

/// A number of bytes a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BytesLimiting {
    /// Bytes a second, in the long run.
    pub(crate) bytes_per_second: u64,
    /// Bytes at once; larger traces are never sampled. Default 0: twice `bytes_per_second`.
    pub(crate) burst_capacity: u64,
}

/// A range of the number of spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpanCount {
    /// At least so many.
    pub(crate) min_spans: u32,
    /// At most so many. Default 0: any.
    pub(crate) max_spans: u32,
}

/// Values of a member of `tracestate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TraceState {
    /// The member's key.
    pub(crate) key: String,
    /// Its values.
    pub(crate) values: Vec<String>,
}

/// A boolean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BooleanAttribute {
    /// The attribute's key.
    pub(crate) key: String,
    /// Its value. Default `false`.
    pub(crate) value: bool,
    /// Samples traces in which it is nowhere so.
    pub(crate) invert_match: bool,
}

/// Conditions in OTTL, which are not supported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct OttlCondition {
    error_mode: String,
    span: Vec<String>,
    spanevent: Vec<String>,
}

/// Policies that all apply.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct And {
    /// The policies: of any type but `and`, `drop` and `composite`.
    pub(crate) and_sub_policy: Vec<Policy>,
}

/// A policy that does not apply.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Not {
    /// The policy: of any type but `and`, `not`, `drop` and `composite`.
    pub(crate) not_sub_policy: Option<Box<Policy>>,
}

/// Policies that make a trace one to drop.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Drop {
    /// The policies, which must all apply: of any type but `and`, `drop` and `composite`.
    pub(crate) drop_sub_policy: Vec<Policy>,
}

/// Policies that share a number of spans a second.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Composite {
    /// Spans a second, for all of them.
    pub(crate) max_total_spans_per_second: u32,
    /// Names of the policies in their order, which must be that of `composite_sub_policy`: the Collector goes by that.
    pub(crate) policy_order: Vec<String>,
    /// The policies: of any type but `not`, `drop` and `composite`.
    pub(crate) composite_sub_policy: Vec<Policy>,
    /// Parts of the policies; those that are not named have an equal part.
    pub(crate) rate_allocation: Vec<RateAllocation>,
}

/// The part of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RateAllocation {
    /// The policy's name.
    pub(crate) policy: String,
    /// How many of a hundred spans are its.
    pub(crate) percent: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Not {
    /// The policy, if there is one.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        // The Collector prints one that is not there as an empty one.
        self.not_sub_policy.as_deref().filter(|policy| !is_default(*policy))
    }

    fn is_empty(&self) -> bool {
        self.policy().is_none()
    }
}

/// Checks policies at the top of the config.
pub(crate) fn check(policies: &[Policy], diagnostics: &mut Diagnostics<'_>) {
    each(policies, "policies", &[Kind::And, Kind::Not, Kind::Drop, Kind::Composite], diagnostics);
}

/// Checks a list of policies, in which these policies of policies may be.
fn each(policies: &[Policy], key: &str, nested: &[Kind], diagnostics: &mut Diagnostics<'_>) {
    let mut names = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        diagnostics.within(&[key, &index.to_string()], |diagnostics| {
            if policy.name.is_empty() {
                diagnostics.add(&["name"], "is missing; name the policy");
            } else if !names.insert(&policy.name) {
                diagnostics.add(
                    &["name"],
                    &format!(
                        "`{}` is the name of a policy before it; name it otherwise",
                        policy.name
                    ),
                );
            }
            policy.check(nested, diagnostics);
        });
    }
}

/// Checks the policies that one is made of.
fn parts(policies: &[Policy], path: [&str; 2], nested: &[Kind], diagnostics: &mut Diagnostics<'_>) {
    if policies.is_empty() {
        diagnostics.add(&path, "is empty; name at least one policy");
    }
    diagnostics.within(&path[..1], |diagnostics| each(policies, path[1], nested, diagnostics));
}

impl Policy {
    fn check(&self, nested: &[Kind], diagnostics: &mut Diagnostics<'_>) {
        const OF_POLICIES: [Kind; 4] = [Kind::And, Kind::Not, Kind::Drop, Kind::Composite];
        let others = self.settings();
        let name =
            |kind: Kind| others.iter().find(|(of, ..)| *of == kind).map_or("", |(_, name, _)| name);
        for (kind, key, is_set) in &others {
            if *is_set && *kind != self.kind {
                diagnostics.add(&[key], "has settings of another type than that of the policy, which the Collector silently ignores; make two policies, joined by `and` where both are to apply");
            }
        }
        match self.kind {
            Kind::None => diagnostics.add(&["type"], "is missing; say what the policy looks at"),
            Kind::OttlCondition => diagnostics.add(
                &["type"],
                "`ottl_condition` is not supported; write the condition with `string_attribute`, `numeric_attribute`, `boolean_attribute`, `status_code`, `and` and `not`",
            ),
            kind if OF_POLICIES.contains(&kind) && !nested.contains(&kind) => diagnostics.add(
                &["type"],
                &format!("`{}` cannot stand here, nor in the Collector; make it a policy of its own", name(kind)),
            ),
            Kind::NumericAttribute => {
                let NumericAttribute { key, min_value, max_value, .. } = &self.numeric_attribute;
                need_key(key, "numeric_attribute", diagnostics);
                if (*min_value, *max_value) == (0, 0) {
                    diagnostics.add(&["numeric_attribute"], "needs `min_value` or `max_value`, other than 0, which is no bound");
                }
            }
            Kind::Probabilistic if !self.probabilistic.sampling_percentage.is_finite() || self.probabilistic.sampling_percentage < 0.0 => {
                diagnostics.add(&["probabilistic", "sampling_percentage"], "is not a percentage; write 0 or more");
            }
            Kind::StatusCode if self.status_code.status_codes.is_empty() => {
                diagnostics.add(&["status_code", "status_codes"], "is empty; name at least one of `OK`, `ERROR` and `UNSET`");
            }
            Kind::StringAttribute => self.string_attribute.check(diagnostics),
            Kind::TraceState => {
                need_key(&self.trace_state.key, "trace_state", diagnostics);
                if self.trace_state.values.is_empty() {
                    diagnostics.add(&["trace_state", "values"], "is empty; name at least one value");
                }
            }
            Kind::BooleanAttribute => need_key(&self.boolean_attribute.key, "boolean_attribute", diagnostics),
            Kind::And => parts(&self.and.and_sub_policy, ["and", "and_sub_policy"], &[Kind::Not], diagnostics),
            Kind::Drop => parts(&self.drop.drop_sub_policy, ["drop", "drop_sub_policy"], &[Kind::Not], diagnostics),
            Kind::Not => match self.not.policy() {
                None => diagnostics.add(&["not", "not_sub_policy"], "is empty; name the policy"),
                Some(policy) => diagnostics
                    .within(&["not", "not_sub_policy"], |diagnostics| policy.check(&[], diagnostics)),
            },
            Kind::Composite => self.composite.check(diagnostics),
            _ => {}
        }
    }

    /// The key of each type's settings, and whether they say anything.
    fn settings(&self) -> [(Kind, &'static str, bool); 15] {
        [
            (Kind::Latency, "latency", !is_default(&self.latency)),
            (Kind::NumericAttribute, "numeric_attribute", !is_default(&self.numeric_attribute)),
            (Kind::Probabilistic, "probabilistic", !is_default(&self.probabilistic)),
            (Kind::StatusCode, "status_code", !is_default(&self.status_code)),
            (Kind::StringAttribute, "string_attribute", !is_default(&self.string_attribute)),
            (Kind::RateLimiting, "rate_limiting", !is_default(&self.rate_limiting)),
            (Kind::BytesLimiting, "bytes_limiting", !is_default(&self.bytes_limiting)),
            (Kind::SpanCount, "span_count", !is_default(&self.span_count)),
            (Kind::TraceState, "trace_state", !is_default(&self.trace_state)),
            (Kind::BooleanAttribute, "boolean_attribute", !is_default(&self.boolean_attribute)),
            (Kind::OttlCondition, "ottl_condition", !is_default(&self.ottl_condition)),
            (Kind::And, "and", !is_default(&self.and)),
            (Kind::Not, "not", !self.not.is_empty()),
            (Kind::Drop, "drop", !is_default(&self.drop)),
            (Kind::Composite, "composite", !is_default(&self.composite)),
        ]
    }
}

fn need_key(key: &str, of: &str, diagnostics: &mut Diagnostics<'_>) {
    if key.is_empty() {
        diagnostics.add(&[of, "key"], "is missing; name the attribute or member");
    }
}

impl StringAttribute {
    fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        need_key(&self.key, "string_attribute", diagnostics);
        if self.values.is_empty() {
            diagnostics.add(&["string_attribute", "values"], "is empty; name at least one value");
        }
        for (index, value) in self.values.iter().enumerate() {
            if self.enabled_regex_matching && pattern::compile(value).is_err() {
                let path = ["string_attribute", "values", &index.to_string()];
                diagnostics.add(&path, "is not a regular expression");
            }
        }
    }
}

impl Composite {
    fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        parts(
            &self.composite_sub_policy,
            ["composite", "composite_sub_policy"],
            &[Kind::And],
            diagnostics,
        );
        if self.max_total_spans_per_second == 0 {
            diagnostics.add(&["composite", "max_total_spans_per_second"], "must be more than zero");
        }
        let names: Vec<_> = self.composite_sub_policy.iter().map(|policy| &policy.name).collect();
        if !self.policy_order.is_empty() && !self.policy_order.iter().eq(names.iter().copied()) {
            diagnostics.add(&["composite", "policy_order"], "is not the order of `composite_sub_policy`, by which the Collector goes whatever this says; write both in the same order");
        }
        for (index, part) in self.rate_allocation.iter().enumerate() {
            if !names.contains(&&part.policy) {
                let path = ["composite", "rate_allocation", &index.to_string(), "policy"];
                let problem =
                    format!("`{}` is not a policy of `composite_sub_policy`", part.policy);
                diagnostics.add(&path, &problem);
            }
        }
    }
}
