//! Requests of a scenario file.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::value::{DurationText, Whole};
use crate::{expectation::condition::Condition, scenario::Propagation};

/// Most requests of one entry; beyond it a scenario is a load test.
const MAX_TIMES: u32 = 100_000;
/// Most requests at once.
const MAX_CONCURRENCY: u32 = 1_000;

/// One kind of request: exactly one of `get`, `head`, `post`, `put`, `patch` and `delete` gives its path, or `grpc` its
/// method.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RequestFile {
    /// Path with its leading `/`, which is asked for by GET.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) get: Option<Spanned<String>>,
    /// The same by HEAD.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) head: Option<Spanned<String>>,
    /// The same by POST.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) post: Option<Spanned<String>>,
    /// The same by PUT.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) put: Option<Spanned<String>>,
    /// The same by PATCH.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) patch: Option<Spanned<String>>,
    /// The same by DELETE.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) delete: Option<Spanned<String>>,
    /// A gRPC method that is called, `package.Service/Method`; `body: { json: … }` is its message, and `status` gRPC's number (0, OK, when
    /// left out).
    #[schemars(with = "Option<String>")]
    pub(in crate::load) grpc: Option<Spanned<String>>,
    /// Path of a descriptor set that describes the gRPC method, relative to the scenario; the server's reflection does when left out.
    #[schemars(with = "Option<PathBuf>")]
    pub(in crate::load) descriptor_set: Option<Spanned<PathBuf>>,
    /// The workload that it is sent to, at its port `http`, by gRPC at its port `grpc` where it has one; the system's entry when left out.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) entry: Option<Spanned<String>>,
    /// The request's body; not with `get` and `head`.
    #[schemars(with = "Option<BodyFile>")]
    pub(in crate::load) body: Option<Spanned<BodyFile>>,
    /// Type of the body, as in HTTP's `Content-Type`; by the form of the body when left out.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) content_type: Option<Spanned<String>>,
    /// Number of times that the request is sent; 1 by default.
    #[schemars(with = "Option<u32>")]
    pub(in crate::load) times: Option<Spanned<Whole<1, MAX_TIMES>>>,
    /// Number of requests in flight at the same time; 1 by default.
    #[schemars(with = "Option<u32>")]
    pub(in crate::load) concurrency: Option<Spanned<Whole<1, MAX_CONCURRENCY>>>,
    /// The HTTP status it must be answered with; 200 when left out.
    #[schemars(with = "Option<u16>")]
    pub(in crate::load) status: Option<Spanned<u16>>,
    /// Whether any status, or none, is accepted: for faults that strike by chance.
    #[serde(default)]
    pub(in crate::load) any_status: bool,
    /// Further expectations of the response.
    #[schemars(with = "Option<AnswerFile>")]
    pub(in crate::load) answer: Option<Spanned<AnswerFile>>,
    /// Values of the answer that later requests use as `${saved:NAME}`: by name, the path in its JSON body.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(in crate::load) save: HashMap<Spanned<String>, String>,
    /// Format of the trace context; `w3c` by default.
    pub(in crate::load) propagation: Option<Propagation>,
    /// Whether the context says *sampled*; true when left out.
    pub(in crate::load) sampled: Option<bool>,
    /// Place of the trace id in the response, for services that choose it themselves.
    #[schemars(with = "Option<TraceIdFromFile>")]
    pub(in crate::load) trace_id_from: Option<Spanned<TraceIdFromFile>>,
    /// Longest wait for the answer; 10s when left out.
    pub(in crate::load) timeout: Option<DurationText>,
    /// Further headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(in crate::load) headers: HashMap<Spanned<String>, String>,
}

/// Body of a request: exactly one of the three.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct BodyFile {
    /// A text.
    pub(in crate::load) text: Option<String>,
    /// A JSON document, written as YAML.
    pub(in crate::load) json: Option<serde_json::Value>,
    /// Path of a file, relative to the scenario; it is sent as it is.
    #[schemars(with = "Option<PathBuf>")]
    pub(in crate::load) file: Option<Spanned<PathBuf>>,
}

/// Expectations of a response beside its status: each a value that it must be, or conditions on it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct AnswerFile {
    /// Conditions on the body as JSON, by path: keys and positions joined by dots, or a JSON Pointer.
    #[serde(default)]
    pub(in crate::load) json: BTreeMap<String, Condition>,
    /// Condition on the body as text.
    pub(in crate::load) text: Option<Condition>,
    /// Conditions on the headers, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Condition>")]
    pub(in crate::load) headers: HashMap<Spanned<String>, Condition>,
}

/// Place of the trace id in a response: exactly one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct TraceIdFromFile {
    /// Name of a response header.
    pub(in crate::load) header: Option<String>,
    /// Name of a top-level field of the JSON body.
    pub(in crate::load) json: Option<String>,
}
