//! What a scenario says of its requests.

use serde_saphyr::Spanned;

use super::Resolver;
use crate::scenario::{
    DEFAULT_TIMEOUT, Propagation, Request, TraceIdFrom,
    file::{RequestFile, TraceIdFromFile, Whole},
};

impl Resolver<'_> {
    pub(super) fn request(&mut self, request: Spanned<RequestFile>) -> Request {
        let file = request.value;
        if !file.get.value.starts_with('/')
            || file.get.value.parse::<http::uri::PathAndQuery>().is_err()
        {
            self.wrong(&file.get, format!("`{}` is not a path: start it with `/`", file.get.value));
        }
        let times = self.within("times", file.times.as_ref());
        let concurrency = self.within("concurrency", file.concurrency.as_ref());
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

    /// The number, where it is within its bounds; 1 where it is not given.
    fn within<const LEAST: u32, const MOST: u32>(
        &mut self,
        what: &str,
        given: Option<&Spanned<Whole<LEAST, MOST>>>,
    ) -> u32 {
        let Some(given) = given else { return 1 };
        let number = given.value.0;
        if !(LEAST..=MOST).contains(&number) {
            self.wrong(given, format!("`{what}` is {LEAST} to {MOST}, not {number}"));
        }
        number.clamp(LEAST, MOST)
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
