//! Requests to an entry: what is sent, what the response must be, and which values of it later requests use.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    case::Method,
    expectation::{AnswerExpect, Asked, condition::text_of},
    source,
};

/// One kind of request and how often it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// HTTP method, or gRPC.
    #[serde(default)]
    pub method: Method,
    /// Path with its leading `/`; may name saved values.
    pub path: String,
    /// The workload that it is sent to, at its port `http`; `None` for the system's entry.
    #[serde(default)]
    pub entry: Option<String>,
    /// The request's body.
    #[serde(default)]
    pub body: Option<Body>,
    /// Descriptors of the gRPC method; `None` where the server gives them.
    #[serde(default)]
    pub descriptors: Option<Descriptors>,
    /// Number of times that the request is sent.
    pub times: u32,
    /// Number of requests in flight at the same time.
    pub concurrency: u32,
    /// The status it must be answered with; `None` where any will do.
    pub status: Option<u16>,
    /// Further expectations of the response.
    #[serde(default)]
    pub answer: AnswerExpect,
    /// Values of its answer that later requests use: paths in its JSON body, by name.
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// Format of the trace context.
    pub propagation: Propagation,
    /// Whether the context says *sampled*.
    pub sampled: bool,
    /// Place of the trace id in the response, for services that choose it themselves.
    pub trace_id_from: Option<TraceIdFrom>,
    /// Longest wait for the whole answer.
    pub timeout: Duration,
    /// Further headers; values may name saved values.
    pub headers: BTreeMap<String, String>,
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its bytes.
    pub content: Content,
}

/// A descriptor set of protobuf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptors {
    /// File that it was read from.
    pub path: PathBuf,
    /// Content of the file; a saved run does not keep it.
    #[serde(skip)]
    pub bytes: Bytes,
}

/// The bytes of a body, or what they are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// A text; may name saved values.
    Text(String),
    /// A JSON document; its texts may name saved values.
    Json(Value),
    /// A file, as it is.
    File {
        /// File that it was read from.
        path: PathBuf,
        /// Content of the file; a saved run does not keep it.
        #[serde(skip)]
        bytes: Bytes,
    },
}

impl Content {
    /// Returns the body's bytes as they are sent.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Json(value) => value.to_string().into(),
            Self::File { bytes, .. } => bytes.clone(),
        }
    }
}

/// Format in which the driver sends its trace context to the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// `traceparent`.
    W3c,
    /// `X-Amzn-Trace-Id`.
    Xray,
    /// Zipkin's `b3`, which propagators of several headers (`X-B3-TraceId` and so on) read as well.
    B3,
    /// Not at all: the entry starts the trace, and the id is read from its answer.
    None,
}

/// Place of the trace id in a response, as 32 hex digits or in X-Ray's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TraceIdFrom {
    /// A response header.
    Header(String),
    /// A top-level field of the JSON body.
    Json(String),
}

/// Default time limit for a complete response.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Request {
    /// Creates a sampled GET of `path`, sent once, for which any response status is accepted.
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::Get,
            path: path.to_owned(),
            entry: None,
            body: None,
            descriptors: None,
            times: 1,
            concurrency: 1,
            status: None,
            answer: AnswerExpect::default(),
            save: BTreeMap::new(),
            propagation: Propagation::W3c,
            sampled: true,
            trace_id_from: None,
            timeout: DEFAULT_TIMEOUT,
            headers: BTreeMap::new(),
        }
    }

    /// Returns the method and path for messages, for example `POST /orders`, with the entry if the request names one.
    pub fn title(&self) -> String {
        let method = self.method.name();
        match &self.entry {
            Some(entry) => format!("{method} {} at `{entry}`", self.path),
            None => format!("{method} {}", self.path),
        }
    }

    /// Returns what it asks of its response.
    pub(crate) fn asked(&self) -> Asked<'_> {
        let (status, expect, save) = (self.status, &self.answer, &self.save);
        Asked { title: self.title(), status, expect, save }
    }

    /// Returns the paths in the JSON body of the response that are checked or saved.
    pub fn json_paths(&self) -> impl Iterator<Item = &str> {
        self.answer.json.keys().chain(self.save.values()).map(String::as_str)
    }

    /// Every text in it that may name saved values.
    fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.path.as_str()];
        texts.extend(self.headers.values().map(String::as_str));
        match self.body.as_ref().map(|body| &body.content) {
            Some(Content::Text(text)) => texts.push(text),
            Some(Content::Json(value)) => texts_of(value, &mut texts),
            Some(Content::File { .. }) | None => {}
        }
        texts
    }

    /// Returns the names of the saved values that the request uses.
    ///
    /// # Errors
    ///
    /// The first invalid reference to a saved value.
    pub fn uses(&self) -> Result<Vec<&str>, ReferenceError> {
        let mut names = Vec::new();
        for text in self.texts() {
            names.extend(pieces(text)?.into_iter().filter_map(|piece| match piece {
                Piece::Saved(name) => Some(name),
                Piece::Text(_) => None,
            }));
        }
        Ok(names)
    }
}

/// Adds every text in a JSON document; its keys are none.
fn texts_of<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts_of(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| texts_of(value, texts)),
        _ => {}
    }
}

/// Returns the value at a path in a JSON document: keys and array indexes joined by dots, or, for keys that contain
/// dots, a JSON Pointer (RFC 6901), which begins with `/`.
pub fn at_path<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path.starts_with('/') {
        return document.pointer(path);
    }
    path.split('.').try_fold(document, |value, key| match value {
        Value::Array(values) => values.get(key.parse::<usize>().ok()?),
        value => value.get(key),
    })
}

/// Error of a text whose references cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid reference to a saved value: {remedy}", remedy = remedy(.0))]
pub struct ReferenceError(String);

/// Text that to write in place of a reference that is none.
fn remedy(reference: &str) -> String {
    let inside = reference.trim_start_matches("${").trim_end_matches('}');
    match source::variable(inside) {
        Some(name) => format!(
            "your environment's variables are not read here; write the value of `{name}`, or `${reference}` to send it as it is"
        ),
        None => "write `${saved:NAME}`, or `$${` for `${`".to_owned(),
    }
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Saved(&'a str),
}

/// Splits a text at its references.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, ReferenceError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let reference = &rest[at..];
        let end = reference.find('}').map_or(reference.len(), |end| end + 1);
        let name =
            reference[..end].strip_prefix("${saved:").and_then(|name| name.strip_suffix('}'));
        match name {
            Some(name) if is_name(name) => pieces.push(Piece::Saved(name)),
            _ => return Err(ReferenceError(reference[..end].to_owned())),
        }
        rest = &reference[end..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Returns whether `name` is a valid name for a saved value.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.bytes().all(fits)
}

/// The values that a scenario's answers gave so far. Each repetition of a request has its own; a later request uses that of the
/// repetition with its own number, else the last one there is.
#[derive(Debug, Default)]
pub struct SavedValues(Mutex<BTreeMap<String, BTreeMap<u32, Value>>>);

impl SavedValues {
    /// Keeps the values that a request saves from its response; `found` has the response's values by path.
    pub fn keep(&self, request: &Request, ordinal: u32, found: &BTreeMap<String, Value>) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, path) in &request.save {
            if let Some(value) = found.get(path) {
                values.entry(name.clone()).or_default().insert(ordinal, value.clone());
            }
        }
    }

    /// Returns the request with its references replaced by saved values.
    ///
    /// # Errors
    ///
    /// The first value that no earlier response provided.
    pub fn fill<'a>(&self, request: &'a Request, ordinal: u32) -> Result<Cow<'a, Request>, String> {
        let plain = |text: &str| !text.contains("${");
        if request.texts().into_iter().all(plain) {
            return Ok(Cow::Borrowed(request));
        }
        let mut filled = request.clone();
        filled.path = self.text(&request.path, ordinal, encoded)?;
        for value in filled.headers.values_mut() {
            *value = self.text(value, ordinal, |text| text)?;
        }
        match filled.body.as_mut().map(|body| &mut body.content) {
            Some(Content::Text(text)) => *text = self.text(text, ordinal, |text| text)?,
            Some(Content::Json(value)) => self.json(value, ordinal)?,
            Some(Content::File { .. }) | None => {}
        }
        Ok(Cow::Owned(filled))
    }

    fn value(&self, name: &str, ordinal: u32) -> Result<Value, String> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = values.get(name);
        let value = of_name.and_then(|all| all.get(&ordinal).or_else(|| all.values().next_back()));
        value.cloned().ok_or_else(|| format!("it needs the value `{name}`, which no answer gave"))
    }

    fn text(
        &self,
        text: &str,
        ordinal: u32,
        written: impl Fn(String) -> String,
    ) -> Result<String, String> {
        let pieces = pieces(text).map_err(|error| error.to_string())?;
        let pieces = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text.to_owned()),
            Piece::Saved(name) => Ok(written(text_of(&self.value(name, ordinal)?))),
        });
        pieces.collect()
    }

    /// A text that is one reference and nothing else becomes the value itself, with its type.
    fn json(&self, value: &mut Value, ordinal: u32) -> Result<(), String> {
        match value {
            Value::String(text) => {
                let parts = pieces(text).map_err(|error| error.to_string())?;
                let mut reported = parts.iter().filter(|piece| **piece != Piece::Text(""));
                *value = match (reported.next(), reported.next()) {
                    (Some(Piece::Saved(name)), None) => self.value(name, ordinal)?,
                    _ => Value::String(self.text(text, ordinal, |text| text)?),
                };
            }
            Value::Array(values) => {
                for value in values {
                    self.json(value, ordinal)?;
                }
            }
            Value::Object(fields) => {
                for value in fields.values_mut() {
                    self.json(value, ordinal)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A value as a part of a path or query: all but letters, digits and `-._~` in percent form.
fn encoded(text: String) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_body(content: Content) -> Request {
        let body = Body { content_type: "text/plain".to_owned(), content };
        Request { method: Method::Post, body: Some(body), ..Request::get("/orders") }
    }

    #[test]
    fn a_path_finds_fields_positions_and_keys_with_dots() {
        let document = json!({ "order": { "items": [{ "id": 7 }] }, "a.b": 1, "0": "zero" });
        assert_eq!(at_path(&document, "order.items.0.id"), Some(&json!(7)));
        assert_eq!(at_path(&document, "/a.b"), Some(&json!(1)));
        assert_eq!(at_path(&document, "0"), Some(&json!("zero")));
        assert_eq!(at_path(&document, ""), Some(&document));
        for missing in
            ["order.items.1", "order.items.id", "a.b", "order.items.0.id.x", "/order/none"]
        {
            assert_eq!(at_path(&document, missing), None, "{missing}");
        }
    }

    #[test]
    fn a_saved_value_goes_into_path_headers_and_body() {
        let values = SavedValues::default();
        let first =
            Request { save: [("id".to_owned(), "o.id".to_owned())].into(), ..Request::get("/") };
        values.keep(&first, 0, &[("o.id".to_owned(), json!("a/b c"))].into());
        let mut request = with_body(Content::Text("id ${saved:id} costs $${5}".to_owned()));
        request.path = "/orders/${saved:id}".to_owned();
        request.headers = [("x-id".to_owned(), "<${saved:id}>".to_owned())].into();
        assert_eq!(request.uses(), Ok(vec!["id", "id", "id"]));
        let filled = values.fill(&request, 0).unwrap();
        assert_eq!(filled.path, "/orders/a%2Fb%20c");
        assert_eq!(filled.headers["x-id"], "<a/b c>");
        assert_eq!(
            filled.body.as_ref().unwrap().content,
            Content::Text("id a/b c costs ${5}".to_owned())
        );
    }

    #[test]
    fn in_json_a_value_keeps_its_type_where_it_stands_alone() {
        let values = SavedValues::default();
        let first =
            Request { save: [("id".to_owned(), "id".to_owned())].into(), ..Request::get("/") };
        values.keep(&first, 0, &[("id".to_owned(), json!(7))].into());
        let request =
            with_body(Content::Json(json!({ "a": ["${saved:id}", "no ${saved:id}"], "b": 1 })));
        let filled = values.fill(&request, 0).unwrap();
        let wanted = Content::Json(json!({ "a": [7, "no 7"], "b": 1 }));
        assert_eq!(filled.body.as_ref().unwrap().content, wanted);
    }

    #[test]
    fn each_repetition_uses_the_value_of_its_own_number_else_the_last() {
        let values = SavedValues::default();
        let first =
            Request { save: [("id".to_owned(), "id".to_owned())].into(), ..Request::get("/") };
        for ordinal in 0..2 {
            values.keep(&first, ordinal, &[("id".to_owned(), json!(ordinal))].into());
        }
        let request = Request::get("/${saved:id}");
        let path = |ordinal| values.fill(&request, ordinal).unwrap().path.clone();
        assert_eq!([path(0), path(1), path(2)], ["/0", "/1", "/1"]);
        let other = Request::get("/${saved:name}");
        assert_eq!(
            values.fill(&other, 0).unwrap_err(),
            "it needs the value `name`, which no answer gave"
        );
    }

    #[test]
    fn a_reference_that_is_none_is_named_with_the_remedy() {
        for wrong in ["${svaed:id}", "${saved:}", "${saved:a b}", "${saved:id"] {
            let path = format!("/x/{wrong}");
            let reported = Request::get(&path).uses().unwrap_err().to_string();
            assert!(
                reported.starts_with(&format!("`{wrong}` is not a valid reference")),
                "{reported}"
            );
            assert!(reported.contains("${saved:NAME}"), "{reported}");
        }
        let reported = Request::get("/${env:ORDER}").uses().unwrap_err().to_string();
        assert!(
            reported.ends_with(
                ": your environment's variables are not read here; write the value of `ORDER`, or `$${env:ORDER}` to send it as it is"
            ),
            "{reported}"
        );
    }
}
