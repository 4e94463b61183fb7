//! Responses to requests: their trace id, and the parts that the scenario checks.

use super::grpc::Called;
use crate::{
    case::{Outcome, ResponseParts},
    expectation::condition::shortened,
    scenario::{Request, TraceIdFrom, request},
};

/// Most of an answer's body that is read, for the trace id in it and where the scenario looks: bytes.
const MAX_BODY: usize = 1 << 20;
/// How much of a body messages show, in characters.
const EXCERPT: usize = 200;

/// Converts the result of a gRPC call into the outcome of a request.
pub(super) fn of_call(request: &Request, called: Called) -> (Outcome, ResponseParts) {
    let header = |name: &str| called.metadata.get(&name.to_lowercase()).cloned();
    let trace_id = match &request.trace_id_from {
        Some(TraceIdFrom::Header(name)) => header(name).and_then(|value| value.parse().ok()),
        Some(TraceIdFrom::Json(field)) => {
            let message = called.message.as_ref();
            message.and_then(|message| message.get(field)?.as_str()?.parse().ok())
        }
        None => None,
    };
    let headers = request.answer.headers.keys();
    let headers = headers.filter_map(|name| Some((name.clone(), header(name)?))).collect();
    let body = match &called.message {
        Some(message) => message.to_string(),
        None => called.status_message.clone(),
    };
    let status = u16::try_from(called.code).unwrap_or(u16::MAX);
    let answer = ResponseParts { headers, ..looked_at(request, status, body.as_bytes(), false) };
    (Outcome::Response { status, trace_id }, answer)
}

/// Returns the outcome of a request without a response.
pub(super) fn failed(reason: String) -> (Outcome, ResponseParts) {
    (Outcome::Failed { reason }, ResponseParts::default())
}

/// Reads a response: its status, trace id, and what the scenario checks.
pub(super) async fn of_response(
    request: &Request,
    mut response: reqwest::Response,
) -> (Outcome, ResponseParts) {
    let status = response.status().as_u16();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let header_id = match &request.trace_id_from {
        Some(TraceIdFrom::Header(name)) => Some(header(name).and_then(|value| value.parse().ok())),
        _ => None,
    };
    let headers = request.answer.headers.keys();
    let headers = headers.filter_map(|name| Some((name.clone(), header(name)?))).collect();
    let mut body = Vec::new();
    let mut is_cut = false;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => {
                body.extend_from_slice(&chunk)
            }
            Ok(Some(_)) => is_cut = true,
            Ok(None) => break,
            Err(error) => {
                return failed(format!(
                    "status {status}, then the body broke off: {}",
                    crate::chain_of(&error.without_url())
                ));
            }
        }
    }
    let trace_id = header_id.unwrap_or_else(|| {
        // The sample apps' field, where the scenario names no other.
        let field = match &request.trace_id_from {
            Some(TraceIdFrom::Json(field)) => field,
            _ => "traceId",
        };
        let json: serde_json::Value = serde_json::from_slice(&body).ok()?;
        json.get(field)?.as_str()?.parse().ok()
    });
    let answer = ResponseParts { headers, ..looked_at(request, status, &body, is_cut) };
    (Outcome::Response { status, trace_id }, answer)
}

/// Returns the parts of a body that the scenario checks, and its beginning where the status is not the one that the scenario asks for.
fn looked_at(request: &Request, status: u16, body: &[u8], is_cut: bool) -> ResponseParts {
    let looks_into_json = request.json_paths().next().is_some();
    let mut answer = ResponseParts::default();
    let is_wrong = request.status.is_some_and(|expected| expected != status);
    if !looks_into_json && request.answer.text.is_none() && !is_wrong {
        return answer;
    }
    let text = String::from_utf8_lossy(body);
    answer.excerpt = shortened(&text, EXCERPT);
    if looks_into_json {
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(document) => {
                let found = |path: &str| {
                    Some((path.to_owned(), request::at_path(&document, path)?.clone()))
                };
                answer.json = request.json_paths().filter_map(found).collect();
            }
            Err(_) if is_cut => {
                answer.no_json =
                    Some(format!("it is longer than {MAX_BODY} bytes, of which no more is read"));
            }
            Err(error) => answer.no_json = Some(error.to_string()),
        }
    }
    answer.text = request.answer.text.is_some().then(|| text.into_owned());
    answer
}
