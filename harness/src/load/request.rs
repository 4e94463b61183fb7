//! Loads a scenario's requests.

use std::{collections::BTreeSet, path::PathBuf};

use serde_saphyr::Spanned;

use super::{
    Resolver, Workloads,
    file::{
        request::{BodyFile, RequestFile, TraceIdFromFile},
        value::Whole,
    },
};
use crate::{
    driver::grpc,
    expectation::AnswerExpect,
    scenario::{
        DEFAULT_TIMEOUT, Method, Propagation, Request, TraceIdFrom,
        request::{Body, Content, Descriptors, is_name},
    },
    source,
};

/// Longest file that a request may carry: bytes. Every request keeps it in memory.
const MAX_FILE: u64 = 16 << 20;

impl Resolver<'_> {
    /// All requests, in their order.
    pub(super) fn requests(
        &mut self,
        requests: Vec<Spanned<RequestFile>>,
        workloads: &Workloads,
    ) -> Vec<Request> {
        let mut saved = BTreeSet::new();
        let mut resolved = Vec::with_capacity(requests.len());
        for request in requests {
            let place = Spanned::new((), request.referenced, request.defined);
            let request = self.request(request, workloads);
            match request.uses() {
                Ok(names) => {
                    for name in names.into_iter().filter(|name| !saved.contains(*name)) {
                        let known = saved.iter().map(String::as_str);
                        self.wrong_with(
                            &place,
                            format!("no earlier request saves `{name}`"),
                            source::nearest_or_known(name, known).or_else(|| {
                                Some(format!(
                                    "add `save: {{ {name}: PATH }}` to the request whose response has it"
                                ))
                            }),
                        );
                    }
                }
                Err(error) => self.wrong(&place, error.to_string()),
            }
            saved.extend(request.save.keys().cloned());
            resolved.push(request);
        }
        resolved
    }

    fn request(&mut self, request: Spanned<RequestFile>, workloads: &Workloads) -> Request {
        let (method, path) = self.method_and_path(&request);
        let file = request.value;
        let times = self.within("times", file.times.as_ref());
        let concurrency = self.within("concurrency", file.concurrency.as_ref());
        if let Some(status) = &file.status {
            match method {
                Method::Grpc if status.value > 16 => self.wrong_with(
                    status,
                    format!("{} is not a gRPC status code", status.value),
                    Some("valid are 0 (OK) to 16 (UNAUTHENTICATED)".to_owned()),
                ),
                Method::Grpc => {}
                _ => self.http_status(status),
            }
            if file.any_status {
                self.wrong(status, "give either `status` or `any_status`, not both");
            }
        }
        for name in file.headers.keys() {
            self.header_name(name);
        }
        if let Some(entry) = &file.entry
            && !workloads.entries.contains(&entry.value)
        {
            let known = workloads.entries.iter().map(String::as_str);
            self.wrong_with(
                entry,
                format!("there is no workload `{}` with a port `http` in the system", entry.value),
                source::nearest_or_known(&entry.value, known),
            );
        }
        let propagation = file.propagation.unwrap_or(Propagation::W3c);
        let trace_id_from = file.trace_id_from.and_then(|from| {
            if method == Method::Head && from.value.json.is_some() {
                self.wrong(&from, "a response to HEAD has no body: give `header`");
            }
            self.trace_id_from(from)
        });
        if propagation == Propagation::None && trace_id_from.is_none() {
            self.wrong(&path, "with `propagation: none` the trace id must be read from the response: give `trace_id_from`");
        }
        let reported =
            file.headers.keys().find(|name| name.value.eq_ignore_ascii_case("content-type"));
        if let (Some(_), Some(twice)) = (&file.content_type, reported) {
            self.wrong(twice, "the body already has a `content_type`: keep one of the two");
        }
        let reported = reported.map(|name| file.headers[name].clone());
        if let (Some(given), None) = (&file.content_type, &file.body) {
            self.wrong(given, "`content_type` requires `body`");
        }
        let body = file.body.and_then(|body| {
            if method == Method::Grpc && body.value.json.is_none() {
                self.wrong(&body, "a gRPC message is written as `json`");
                return None;
            }
            if method.is_safe() {
                let remedy = "use `post`, `put`, `patch` or `delete`, or leave it out";
                self.wrong_with(
                    &body,
                    format!("a {} carries no body", method.name()),
                    Some(remedy.to_owned()),
                );
            }
            self.body(body, file.content_type.map(|given| given.value).or(reported))
        });
        for (name, path) in &file.save {
            if method == Method::Head {
                self.wrong(name, "a response to HEAD has no body to take a value from: use `get`");
            }
            if !is_name(&name.value) {
                self.wrong(
                    name,
                    format!(
                        "`{}` is not a valid name for a value: use letters, digits, `_` and `-`",
                        name.value
                    ),
                );
            }
            if path.trim().is_empty() {
                self.wrong(
                    name,
                    format!(
                        "give the path of `{}` in the response body, for example `order.id`",
                        name.value
                    ),
                );
            }
        }
        let descriptors = file.descriptor_set.and_then(|set| {
            if method != Method::Grpc {
                self.wrong(&set, "`descriptor_set` is supported for `grpc` requests only");
            }
            let Content::File { path, bytes } = self.body_file(&set)? else { return None };
            Some((Descriptors { path, bytes }, set))
        });
        let descriptors = descriptors.map(|(descriptors, set)| {
            if method == Method::Grpc {
                self.described_call(&path, &set, &descriptors, body.as_ref());
            }
            descriptors
        });
        let answer = file.answer.map_or_else(AnswerExpect::default, |answer| {
            let has_body = !answer.value.json.is_empty() || answer.value.text.is_some();
            if has_body && method == Method::Head {
                self.wrong(
                    &answer,
                    "a response to HEAD has no body: ask for its `headers`, or use `get`",
                );
            }
            if !has_body && answer.value.headers.is_empty() {
                self.wrong(
                    &answer,
                    "empty `answer`: give at least one of `json`, `text` and `headers`",
                );
            }
            for name in answer.value.headers.keys() {
                self.header_name(name);
            }
            let headers = answer.value.headers.into_iter();
            AnswerExpect {
                json: answer.value.json,
                text: answer.value.text,
                headers: headers.map(|(name, condition)| (name.value, condition)).collect(),
            }
        });
        // The body implies its type.
        let headers = file
            .headers
            .into_iter()
            .filter(|(name, _)| body.is_none() || !name.value.eq_ignore_ascii_case("content-type"));
        Request {
            method,
            path: path.value,
            entry: file.entry.map(|entry| entry.value),
            times,
            concurrency: concurrency.min(times),
            status: match file.any_status {
                true => None,
                false => Some(file.status.map_or(method.success(), |status| status.value)),
            },
            answer,
            save: file.save.into_iter().map(|(name, path)| (name.value, path)).collect(),
            propagation,
            sampled: file.sampled.unwrap_or(true),
            trace_id_from,
            timeout: file.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
            headers: headers.map(|(name, value)| (name.value, value)).collect(),
            body,
            descriptors,
        }
    }

    fn method_and_path(&mut self, request: &Spanned<RequestFile>) -> (Method, Spanned<String>) {
        let file = &request.value;
        let given: Vec<(Method, &Spanned<String>)> = [
            (Method::Get, &file.get),
            (Method::Head, &file.head),
            (Method::Post, &file.post),
            (Method::Put, &file.put),
            (Method::Patch, &file.patch),
            (Method::Delete, &file.delete),
            (Method::Grpc, &file.grpc),
        ]
        .into_iter()
        .filter_map(|(method, path)| Some((method, path.as_ref()?)))
        .collect();
        let [(method, path)] = given.as_slice() else {
            self.wrong(
                request,
                "give exactly one of `get`, `head`, `post`, `put`, `patch` and `delete`, with the path, or `grpc`, with the method",
            );
            let nowhere = Spanned::new("/".to_owned(), request.referenced, request.defined);
            return (Method::Get, nowhere);
        };
        if *method == Method::Grpc {
            if let Err(error) = grpc::parts(&path.value) {
                self.wrong(*path, error.to_string());
            }
            let whole = format!("/{}", path.value.trim_start_matches('/'));
            return (Method::Grpc, Spanned::new(whole, path.referenced, path.defined));
        }
        // References stand for what will be put in as part of a path.
        let plain = path.value.replace("${", "").replace('}', "");
        if let Some(remedy) = wrong_with_path(&path.value, &plain) {
            self.wrong(*path, format!("`{}` is not a path: {remedy}", path.value));
        }
        (*method, Spanned::clone(path))
    }

    /// Checks that a descriptor set has the method, and that the message fits it; one that uses saved values is not known yet.
    fn described_call(
        &mut self,
        path: &Spanned<String>,
        set: &Spanned<PathBuf>,
        descriptors: &Descriptors,
        body: Option<&Body>,
    ) {
        let pool = match grpc::described(&descriptors.bytes) {
            Ok(pool) => pool,
            Err(error) => return self.wrong(set, error.to_string()),
        };
        let method = match grpc::method(&pool, &path.value) {
            Ok(method) => method,
            Err(error) => return self.wrong(path, error.to_string()),
        };
        if let Some(Content::Json(json)) = body.map(|body| &body.content)
            && !json.to_string().contains("${")
            && let Err(error) = grpc::message(&method, json)
        {
            self.wrong(path, error);
        }
    }

    fn body(&mut self, body: Spanned<BodyFile>, content_type: Option<String>) -> Option<Body> {
        let (content, usual) = match (&body.value.text, &body.value.json, &body.value.file) {
            (Some(text), None, None) => (Content::Text(text.clone()), "text/plain; charset=utf-8"),
            (None, Some(json), None) => (Content::Json(json.clone()), "application/json"),
            (None, None, Some(file)) => {
                let usual = match file.value.extension().and_then(|ending| ending.to_str()) {
                    Some("json") => "application/json",
                    Some("txt") => "text/plain; charset=utf-8",
                    _ => "application/octet-stream",
                };
                (self.body_file(file)?, usual)
            }
            _ => {
                self.wrong(&body, "give exactly one of `text`, `json` and `file`");
                return None;
            }
        };
        if let Content::Json(serde_json::Value::String(text)) = &content
            && text.trim_start().starts_with(['{', '['])
        {
            self.wrong_with(
                &body,
                "`json` is a single string, and would be sent as a JSON string",
                Some(
                    "write the document as YAML, without quotes, or as `text` with `content_type: application/json`"
                        .to_owned(),
                ),
            );
        }
        let content_type = content_type.unwrap_or_else(|| usual.to_owned());
        if http::HeaderValue::from_str(&content_type).is_err() {
            self.wrong(&body, format!("`{content_type}` cannot be sent as `Content-Type`"));
        }
        Some(Body { content_type, content })
    }

    fn body_file(&mut self, file: &Spanned<PathBuf>) -> Option<Content> {
        let path = self.beside(&file.value);
        let length = std::fs::metadata(&path).map(|about| about.len());
        let read = length.and_then(|length| match length > MAX_FILE {
            true => {
                Err(std::io::Error::other(format!("it has {length} bytes, more than {MAX_FILE}")))
            }
            false => std::fs::read(&path),
        });
        match read {
            Ok(bytes) => Some(Content::File { path, bytes: bytes.into() }),
            Err(error) => {
                let message = format!("the file {} {}", path.display(), source::unreadable(&error));
                self.wrong_with(
                    file,
                    message,
                    Some("its path starts at the scenario's folder".to_owned()),
                );
                None
            }
        }
    }

    fn header_name(&mut self, name: &Spanned<String>) {
        if name.value.parse::<http::HeaderName>().is_err() {
            self.wrong(name, format!("`{}` is not a header name", name.value));
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
            self.wrong(
                given,
                format!("`{what}` should be a whole number from {LEAST} to {MOST}, is `{number}`"),
            );
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

/// Returns what to write in place of a path that is none; `plain` is the same without references.
fn wrong_with_path(path: &str, plain: &str) -> Option<String> {
    if let Some((_, rest)) = path.split_once("://") {
        let rest = rest.find('/').map_or("/", |at| &rest[at..]);
        return Some(format!(
            "write `{rest}`; the host is that of the system's entry, or of the workload under `entry`"
        ));
    }
    if !path.starts_with('/') {
        return Some("start it with `/`".to_owned());
    }
    let error = plain.parse::<http::uri::PathAndQuery>().err()?;
    Some(match plain.contains(' ') {
        true => "it has a space: write `%20`".to_owned(),
        false => {
            format!("{error}; write what is no letter, digit or `-._~` as `%` and two hex digits")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::wrong_with_path;

    #[test]
    fn a_path_that_is_none_is_answered_with_what_to_write() {
        let wrong = |path: &str| wrong_with_path(path, path).unwrap_or_default();
        assert_eq!(wrong("/loans/1?x=y%20z"), "");
        assert_eq!(wrong("loans"), "start it with `/`");
        assert_eq!(wrong("/loans/a b"), "it has a space: write `%20`");
        assert!(wrong("http://localhost:8080/loans/1").starts_with("write `/loans/1`;"));
        assert!(wrong("https://shop").starts_with("write `/`;"));
        assert!(wrong("/a\u{7f}").contains("`%` and two hex digits"));
    }
}
