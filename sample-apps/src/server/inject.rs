//! Carries out the faults of a request, its own and the standing ones, before its handler runs.

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::{KeyValue, TraceId};
use tokio::time;

use crate::fault::{FAULT_HEADER, FaultKind, Faults, MAX_HOLD, RESEND_HEADER};
use crate::settings::Settings;
use crate::span::OpenSpan;

/// Rest of the work once the faults were carried out.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The handler runs.
    GoOn,
    /// This is answered instead.
    Answer(StatusCode, String),
    /// Nothing is answered; the connection is reset.
    CutOff,
}

/// Faults that a request's headers ask of this service.
#[derive(Debug, Default)]
pub(super) struct Asked {
    faults: Faults,
    resend_count: u32,
}

impl Asked {
    /// Reads the fault and resend headers.
    ///
    /// # Errors
    ///
    /// The message for the caller, naming the part that is wrong.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let faults = match forwarded_faults(headers) {
            None => Faults::default(),
            Some(Err(())) => return Err(format!("header {FAULT_HEADER}: is not text")),
            Some(Ok(text)) => {
                text.parse().map_err(|error| format!("header {FAULT_HEADER}: {error}"))?
            }
        };
        let resend_count = match headers.get(RESEND_HEADER) {
            None => 0,
            Some(value) => value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                format!("header {RESEND_HEADER}: {value:?} is not a count; write a non-negative integer")
            })?,
        };
        Ok(Self { faults, resend_count })
    }
}

/// Returns the fault header as it is to be forwarded; several lines of it are one list (RFC 9110, section 5.3).
pub(super) fn forwarded_faults(headers: &HeaderMap) -> Option<Result<String, ()>> {
    let lines: Vec<_> =
        headers.get_all(FAULT_HEADER).iter().map(|value| value.to_str().map_err(|_| ())).collect();
    if lines.is_empty() {
        return None;
    }
    Some(lines.into_iter().collect::<Result<Vec<_>, ()>>().map(|lines| lines.join(",")))
}

/// Waits the standing latency, then carries out what is due.
pub(super) async fn carry_out(asked: &Asked, settings: &Settings, span: &OpenSpan) -> Verdict {
    time::sleep(settings.faults.latency).await;
    let due = due(asked, settings, span.trace_id());
    if !due.is_empty() {
        // Says on the span itself that this failure was asked for. Once, for the SDK keeps every value of a key.
        let reported: Vec<_> = due.iter().map(ToString::to_string).collect();
        span.set(KeyValue::new("tracecheck.fault", reported.join(",")));
    }
    for fault in due {
        match apply(fault).await {
            Verdict::GoOn => {}
            decided => return decided,
        }
    }
    Verdict::GoOn
}

/// Returns the faults that this request meets: its own in their order, then the standing one, up to and including the
/// first that is more than a delay.
fn due<'a>(asked: &'a Asked, settings: &'a Settings, trace_id: TraceId) -> Vec<&'a FaultKind> {
    let own = asked.faults.at(&settings.name, asked.resend_count);
    let met = own.chain(settings.faults.of(trace_id)).filter(|fault| match fault {
        FaultKind::ErrorRate { rate, seed } => rate.hits(*seed, trace_id),
        _ => true,
    });
    let mut due = Vec::new();
    for fault in met {
        due.push(fault);
        if !matches!(fault, FaultKind::Delay(_)) {
            break;
        }
    }
    due
}

async fn apply(fault: &FaultKind) -> Verdict {
    let answer = |status| Verdict::Answer(status, format!("injected fault: {fault}"));
    match fault {
        FaultKind::Status(code) => {
            answer(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        FaultKind::ErrorRate { .. } => answer(StatusCode::INTERNAL_SERVER_ERROR),
        FaultKind::Delay(delay) => {
            time::sleep(*delay).await;
            Verdict::GoOn
        }
        FaultKind::Abort => Verdict::CutOff,
        FaultKind::Hang => {
            // Ends earlier by being dropped, when the caller goes away.
            time::sleep(MAX_HOLD).await;
            answer(StatusCode::SERVICE_UNAVAILABLE)
        }
        FaultKind::Panic => panic!("injected fault: panic"),
    }
}
