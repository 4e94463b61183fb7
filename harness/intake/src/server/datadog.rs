//! Datadog's side: whatever a client sends is recorded, decoded and answered.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{runtime::RuntimeFlavor, time::timeout_at};

use super::{Intake, connection::Resetter};
use crate::{
    attempt::{Attempt, Reply},
    decode::{Decoded, Route, decode},
    replies::{Script, ScriptedReply},
};
use harness_core::trace::unix_nanos;

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 6] = [
    "dd-api-key",
    "dd-application-key",
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
];
/// Bodies larger than this are decoded where they do not hold other requests up.
const DECODE_INLINE: usize = 64 << 10;
/// Of a body that is too large, so many times the limit is read and thrown away, so that the client gets to read
/// its answer.
const DISCARD_FACTOR: usize = 8;

/// Takes every path that nobody else takes, so that a request to an unknown one is evidence as well.
pub(super) fn routes() -> Router<Arc<Intake>> {
    Router::new().fallback(handle)
}

/// The reply to the client.
struct Answer {
    reply: Reply,
    body: serde_json::Value,
    retry_after: Option<u64>,
}

impl Answer {
    fn new(status: StatusCode, body: serde_json::Value) -> Self {
        Self { reply: Reply::Status(status.as_u16()), body, retry_after: None }
    }

    fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, json!({ "errors": [message.into()] }))
    }
}

/// An attempt that has no reply yet. Whatever becomes of its handler, it is recorded: where the client goes away, the
/// server drops the handler.
struct Pending {
    intake: Arc<Intake>,
    attempt: Option<Attempt>,
}

impl Pending {
    fn finish(&mut self, reply: Reply, decoded: Decoded) {
        if let Some(mut attempt) = self.attempt.take() {
            attempt.reply = reply;
            self.intake.record(attempt, decoded);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            let decoded = decode(attempt, self.intake.settings.max_decoded);
            self.finish(Reply::ClientGone, decoded);
        }
    }
}

async fn handle(
    State(intake): State<Arc<Intake>>,
    ConnectInfo(resetter): ConnectInfo<Resetter>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let mut pending = Pending {
        attempt: Some(Attempt {
            seq: 0,
            received_at: 0,
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            headers: redacted(&head.headers),
            body: Vec::new(),
            // Replaced when it is recorded.
            reply: Reply::ClientGone,
        }),
        intake: Arc::clone(&intake),
    };
    let Some(attempt) = &mut pending.attempt else { return StatusCode::OK.into_response() };

    let read = read_body(&intake, body, attempt, arrived).await;
    attempt.received_at = unix_nanos(SystemTime::now());
    let refused = match read {
        Ok(()) if !key_fits(&intake, &head.headers) => {
            Some(Answer::error(StatusCode::FORBIDDEN, "Forbidden"))
        }
        Ok(()) => None,
        // Nobody is there to read an answer; `pending` records it.
        Err(Unread::ClientGone) => return StatusCode::BAD_REQUEST.into_response(),
        Err(Unread::TooSlow) => Some(Answer::error(StatusCode::REQUEST_TIMEOUT, "Request Timeout")),
        Err(Unread::TooLarge) => Some(Answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Payload too large: the limit is {} bytes", intake.settings.max_body),
        )),
    };
    let decoded = decode_aside(attempt, intake.settings.max_decoded);
    let answer = match refused {
        Some(answer) => answer,
        None => {
            let script = intake.state().replies.take(&attempt.path, arrived);
            if let Some(delay) = script.as_ref().and_then(|script| script.delay) {
                tokio::time::sleep_until((arrived + delay).into()).await;
            }
            scripted(script).unwrap_or_else(|| usual(&head.method, &attempt.path, &decoded))
        }
    };
    // Recorded before the client can know, so that whoever saw the answer finds the attempt.
    pending.finish(answer.reply, decoded);
    respond(answer, &resetter)
}

/// Reason for which a body was not read to its end.
enum Unread {
    ClientGone,
    TooSlow,
    TooLarge,
}

/// Reads the body into the attempt; one that is too large is not kept.
async fn read_body(
    intake: &Intake,
    mut body: Body,
    attempt: &mut Attempt,
    arrived: Instant,
) -> Result<(), Unread> {
    let limit = intake.settings.max_body;
    let deadline = (arrived + intake.settings.body_timeout).into();
    let mut length = 0_usize;
    loop {
        let data = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Unread::TooSlow),
            Ok(Some(Err(_))) => return Err(Unread::ClientGone),
            Ok(None) if length > limit => return Err(Unread::TooLarge),
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        length = length.saturating_add(data.len());
        if length <= limit {
            attempt.body.extend_from_slice(&data);
        } else {
            attempt.body = Vec::new();
            if length > limit.saturating_mul(DISCARD_FACTOR) {
                return Err(Unread::TooLarge);
            }
        }
    }
}

/// Decoding megabytes takes tens of milliseconds; other requests go on meanwhile, where the runtime can do that.
fn decode_aside(attempt: &Attempt, max_decoded: usize) -> Decoded {
    let large = attempt.body.len() > DECODE_INLINE;
    let runtime = tokio::runtime::Handle::current().runtime_flavor();
    if large && runtime == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(|| decode(attempt, max_decoded))
    } else {
        decode(attempt, max_decoded)
    }
}

fn key_fits(intake: &Intake, headers: &HeaderMap) -> bool {
    let Some(sent) = headers.get("dd-api-key") else { return false };
    match &intake.settings.api_key {
        Some(key) => sent.as_bytes() == key.reveal().as_bytes(),
        None => !sent.is_empty(),
    }
}

fn redacted(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = if SECRET_HEADERS.contains(&name.as_str()) {
            "***".to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        shown
            .entry(name.as_str().to_owned())
            .and_modify(|values| *values = format!("{values}, {value}"))
            .or_insert(value);
    }
    shown
}

fn scripted(script: Option<Script>) -> Option<Answer> {
    let script = script?;
    match script.reply? {
        ScriptedReply::Status(status) => {
            let status = StatusCode::from_u16(status).ok()?;
            let mut answer = match status.is_success() {
                true => Answer::new(status, json!({})),
                false => Answer::error(status, "scripted reply"),
            };
            answer.retry_after = script.retry_after.map(|after| after.as_secs());
            Some(answer)
        }
        ScriptedReply::Reset(_) => {
            Some(Answer { reply: Reply::Reset, body: json!({}), retry_after: None })
        }
    }
}

/// Returns Datadog's usual reply.
fn usual(method: &Method, path: &str, decoded: &Decoded) -> Answer {
    let Some(route) = Route::of(path) else {
        return Answer::error(StatusCode::NOT_FOUND, "Not Found");
    };
    let expected = if route == Route::Validate { Method::GET } else { Method::POST };
    if *method != expected {
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, format!("send {expected}"));
    }
    if let Decoded::Undecodable { reason } = decoded {
        return Answer::error(StatusCode::BAD_REQUEST, format!("cannot read the body: {reason}"));
    }
    match route {
        Route::Traces => Answer::new(StatusCode::ACCEPTED, json!({ "rate_by_service": {} })),
        Route::OtlpTraces => Answer::new(StatusCode::ACCEPTED, json!({})),
        Route::Validate => Answer::new(StatusCode::OK, json!({ "valid": true })),
        Route::Stats | Route::Series | Route::HostMetadata => {
            Answer::new(StatusCode::ACCEPTED, json!({ "status": "ok", "errors": [] }))
        }
    }
}

fn respond(answer: Answer, resetter: &Resetter) -> Response {
    let status = match answer.reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        Reply::Reset | Reply::ClientGone => {
            resetter.reset();
            StatusCode::OK
        }
    };
    let mut response = (status, axum::Json(answer.body)).into_response();
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
