//! Faults of a scenario file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::value::{DurationText, Whole};

/// Something that breaks: where, and exactly one way. At a service: `status`, `delay`, `abort`, `hang`, `panic` or
/// `error_rate` travel with each request; `stop`, `pause`, `kill`, `restart` and `scale` act on the workload. At `intake`: `status`, `reset` or `delay`,
/// and at `collector`: `status`, for the `next` requests or `for` a time, else for good. `between` two workloads: `drop_header`, `set_header`, `upper_case_header`,
/// `double_header`, `duplicate`, `swallow`, `status` or `delay`, for the `next` requests, else for good.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct FaultFile {
    /// Name of the workload.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) at: Option<Spanned<String>>,
    /// Two workloads, the one that calls first: something is done to what passes between them.
    #[schemars(with = "Option<Vec<String>>")]
    pub(in crate::load) between: Option<Spanned<Vec<String>>>,
    /// A header that is taken out of what passes.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) drop_header: Option<Spanned<String>>,
    /// A header that is put into what passes, in place of one of that name: its name and value.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(in crate::load) set_header: Option<Spanned<BTreeMap<String, String>>>,
    /// A header whose value is put into upper case.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) upper_case_header: Option<Spanned<String>>,
    /// A header that is sent twice.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) double_header: Option<Spanned<String>>,
    /// Delivers twice what passes.
    #[serde(default)]
    pub(in crate::load) duplicate: bool,
    /// Delivers nothing of what passes, and answers as if it had.
    #[serde(default)]
    pub(in crate::load) swallow: bool,
    /// Answers this HTTP status. At `collector`, services are answered so instead of having their spans taken; over gRPC by the code that
    /// stands for it there.
    #[schemars(with = "Option<u16>")]
    pub(in crate::load) status: Option<Spanned<u16>>,
    /// The collector asks services to wait so long before they come again, in whole seconds; says nothing of that when left out.
    #[schemars(with = "Option<DurationText>")]
    pub(in crate::load) retry_after: Option<Spanned<DurationText>>,
    /// Waits this long first.
    pub(in crate::load) delay: Option<DurationText>,
    /// Resets the connection instead of answering.
    #[serde(default)]
    pub(in crate::load) abort: bool,
    /// Does not answer until the caller gives up.
    #[serde(default)]
    pub(in crate::load) hang: bool,
    /// Panics in the handler.
    #[serde(default)]
    pub(in crate::load) panic: bool,
    /// Fails a share of the requests with status 500.
    #[schemars(with = "Option<ErrorRateFile>")]
    pub(in crate::load) error_rate: Option<Spanned<ErrorRateFile>>,
    /// Only the first so many tries of a request.
    pub(in crate::load) first: Option<u32>,
    /// The workload is stopped before the requests, and started again when all are judged.
    #[serde(default)]
    pub(in crate::load) stop: bool,
    /// The workload is frozen before the requests, and goes on when all are answered.
    #[serde(default)]
    pub(in crate::load) pause: bool,
    /// The workload is killed, without time to end well, after a first request has gone through it, and is up again before the
    /// scenario's own requests.
    #[serde(default)]
    pub(in crate::load) kill: bool,
    /// The workload is stopped and started again, after a first request has gone through it, before the scenario's own requests.
    #[serde(default)]
    pub(in crate::load) restart: bool,
    /// The workload has so many instances from before the requests until all are judged; only 0 can be asked for.
    #[schemars(with = "Option<u32>")]
    pub(in crate::load) scale: Option<Spanned<Whole<0, 0>>>,
    /// Number of the scenario's requests after whose responses what acts on the workload happens, while the others go on, instead of
    /// before all of them.
    #[schemars(with = "Option<u32>")]
    pub(in crate::load) after: Option<Spanned<u32>>,
    /// The intake resets the connection.
    #[serde(default)]
    pub(in crate::load) reset: bool,
    /// The intake, the collector, or what stands between two workloads, does so for the next so many requests.
    pub(in crate::load) next: Option<u32>,
    /// The intake, or the collector, does so for this long, from the first request on that meets it.
    #[serde(rename = "for")]
    pub(in crate::load) lasting: Option<DurationText>,
}

/// A share of requests that fail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct ErrorRateFile {
    /// 0 to 1.
    pub(in crate::load) rate: f64,
    /// Seed that makes the choice repeatable; 0 by default.
    #[serde(default)]
    pub(in crate::load) seed: u64,
}
