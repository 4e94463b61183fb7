//! What a scenario says of its requests.

use serde_saphyr::Spanned;

use super::Resolver;
use crate::scenario::{
    DEFAULT_TIMEOUT, Propagation, Request, TraceIdFrom,
    file::{RequestFile, TraceIdFromFile},
};

/// Most requests of one entry; beyond it a scenario is a load test.
const MAX_TIMES: u32 = 100_000;
/// Most requests at once.
const MAX_CONCURRENCY: u32 = 1_000;

impl Resolver<'_> {
    pub(super) fn request(&mut self, request: Spanned<RequestFile>) -> Request {
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

    pub(super) fn http_status(&mut self, status: &Spanned<u16>) {
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
}
