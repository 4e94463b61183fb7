//! The standard `OTEL_*` variables, as the OpenTelemetry specification defines them.
//!
//! The Rust SDK reads most of these by itself, but it ignores what it cannot use. So all of them are read here, and
//! the SDK is configured through its builders; see the module `telemetry`.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{SettingError, Var, Vars};

/// Settings of the OpenTelemetry SDK.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// No spans are made; trace context is passed on as it came (`OTEL_SDK_DISABLED`).
    pub disabled: bool,
    /// Destination of ended spans (`OTEL_TRACES_EXPORTER`).
    pub exporter: ExporterSettings,
    /// Batching of spans (`OTEL_BSP_*`).
    pub batch: BatchSettings,
    /// Sampling of traces (`OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`).
    pub sampler: SamplerSettings,
    /// Propagators of trace context, in order (`OTEL_PROPAGATORS`); empty = `none`.
    pub propagators: Vec<PropagatorName>,
    /// Resource attributes (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`); keys occur once.
    pub resource: Vec<(String, String)>,
    /// Limits of one span (`OTEL_SPAN_*_COUNT_LIMIT`).
    pub limits: SpanLimitSettings,
}

/// Destination of ended spans.
#[derive(Clone, Debug)]
pub enum ExporterSettings {
    /// To a collector, by OTLP.
    Otlp(OtlpSettings),
    /// To standard error, a line of JSON each.
    Console,
    /// Nowhere.
    None,
}

/// Settings of OTLP (`OTEL_EXPORTER_OTLP_*`, `OTEL_EXPORTER_OTLP_TRACES_*`).
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// The protocol.
    pub protocol: OtlpProtocol,
    /// The complete URL, for HTTP with its path.
    pub endpoint: String,
    /// Headers of every request.
    pub headers: SecretHeaders,
    /// The limit of one export, its retries included.
    pub timeout: Duration,
    /// Compression of request bodies; `None` = no compression.
    pub compression: Option<OtlpCompression>,
}

/// The protocols of OTLP that this program speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OtlpProtocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    HttpProtobuf,
}

/// The compressions of OTLP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OtlpCompression {
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

/// Headers whose values are not shown, for they hold credentials.
#[derive(Clone, Default)]
pub struct SecretHeaders(pub HeaderMap);

impl fmt::Debug for SecretHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "***"))).finish()
    }
}

/// Batching of spans before they are exported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSettings {
    /// The longest time between two exports (`OTEL_BSP_SCHEDULE_DELAY`).
    pub schedule_delay: Duration,
    /// The limit of one export (`OTEL_BSP_EXPORT_TIMEOUT`).
    pub export_timeout: Duration,
    /// Spans that may wait; more are dropped (`OTEL_BSP_MAX_QUEUE_SIZE`).
    pub max_queue_size: usize,
    /// Spans of one export (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    pub max_export_batch_size: usize,
}

/// Sampling of traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerSettings {
    /// A caller's decision is followed; `root` decides only where there is none.
    pub parent_based: bool,
    /// The decision.
    pub root: RootSampler,
}

/// The decision of a sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RootSampler {
    /// Every trace.
    AlwaysOn,
    /// No trace.
    AlwaysOff,
    /// This share of traces, by trace id.
    TraceIdRatio(f64),
}

/// A way for trace context to travel in headers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PropagatorName {
    /// W3C Trace Context: `traceparent`, `tracestate`.
    TraceContext,
    /// W3C Baggage: `baggage`.
    Baggage,
    /// AWS X-Ray: `x-amzn-trace-id`.
    Xray,
}

/// Limits of one span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanLimitSettings {
    /// Attributes.
    pub attributes: u32,
    /// Events.
    pub events: u32,
    /// Links.
    pub links: u32,
}

impl TelemetrySettings {
    pub(super) fn from_vars(vars: Vars<'_>) -> Result<Self, SettingError> {
        let limit = |name| vars.get(name).map_or(Ok(128), |var| var.number(0..=u32::MAX));
        let batch = read_batch(vars)?;
        Ok(Self {
            disabled: read_disabled(vars)?,
            exporter: read_exporter(vars)?,
            batch,
            sampler: read_sampler(vars)?,
            propagators: read_propagators(vars)?,
            resource: read_resource(vars)?,
            limits: SpanLimitSettings {
                attributes: limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")?,
                events: limit("OTEL_SPAN_EVENT_COUNT_LIMIT")?,
                links: limit("OTEL_SPAN_LINK_COUNT_LIMIT")?,
            },
        })
    }
}

fn read_disabled(vars: Vars<'_>) -> Result<bool, SettingError> {
    let Some(var) = vars.get("OTEL_SDK_DISABLED") else { return Ok(false) };
    var.value.to_ascii_lowercase().parse().map_err(|_| var.error("neither", "write true or false"))
}

fn read_exporter(vars: Vars<'_>) -> Result<ExporterSettings, SettingError> {
    let otlp = || read_otlp(vars).map(ExporterSettings::Otlp);
    match vars.get("OTEL_TRACES_EXPORTER") {
        None => otlp(),
        Some(var) => match var.value {
            "otlp" => otlp(),
            "console" => Ok(ExporterSettings::Console),
            "none" => Ok(ExporterSettings::None),
            _ => Err(var.error("unknown exporter", "use one of otlp, console, none")),
        },
    }
}

fn read_otlp(vars: Vars<'_>) -> Result<OtlpSettings, SettingError> {
    let protocol =
        match vars.first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            None => OtlpProtocol::Grpc,
            Some(var) => match var.value {
                "grpc" => OtlpProtocol::Grpc,
                "http/protobuf" => OtlpProtocol::HttpProtobuf,
                _ => return Err(var.error("unknown protocol", "use grpc or http/protobuf")),
            },
        };
    let compression = match vars
        .first(["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"])
    {
        None => None,
        Some(var) => match var.value {
            "gzip" => Some(OtlpCompression::Gzip),
            "zstd" => Some(OtlpCompression::Zstd),
            "none" => None,
            _ => return Err(var.error("unknown compression", "use one of gzip, zstd, none")),
        },
    };
    Ok(OtlpSettings {
        protocol,
        endpoint: read_endpoint(vars, protocol)?,
        headers: match vars
            .first(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])
        {
            Some(var) => read_headers(var)?,
            None => SecretHeaders::default(),
        },
        timeout: match vars
            .first(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"])
        {
            Some(var) => milliseconds(var)?,
            None => Duration::from_secs(10),
        },
        compression,
    })
}

/// OTLP specification, "Endpoint URLs for OTLP/HTTP": the general variable is a base to which the signal's path is
/// added, the signal's own variable is used as it is.
fn read_endpoint(vars: Vars<'_>, protocol: OtlpProtocol) -> Result<String, SettingError> {
    let remedy = match protocol {
        OtlpProtocol::Grpc => "write a URL such as http://127.0.0.1:4317",
        OtlpProtocol::HttpProtobuf => "write a URL such as http://127.0.0.1:4318",
    };
    if let Some(var) = vars.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        return Ok(var.url(var.value, remedy)?.to_string());
    }
    let base = match vars.get("OTEL_EXPORTER_OTLP_ENDPOINT") {
        Some(var) => var.url(var.value, remedy)?.to_string(),
        None if protocol == OtlpProtocol::Grpc => "http://localhost:4317".to_owned(),
        None => "http://localhost:4318".to_owned(),
    };
    Ok(match protocol {
        OtlpProtocol::Grpc => base,
        OtlpProtocol::HttpProtobuf => format!("{}/v1/traces", base.trim_end_matches('/')),
    })
}

fn read_headers(var: Var<'_>) -> Result<SecretHeaders, SettingError> {
    let mut headers = HeaderMap::new();
    for (name, value) in read_pairs(var)? {
        let header = (HeaderName::try_from(&name), HeaderValue::try_from(&value));
        let (Ok(name), Ok(mut value)) = header else {
            return Err(hidden(var.error(format!("`{name}` cannot be sent as a header"), PAIRS)));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(SecretHeaders(headers))
}

const PAIRS: &str = "write KEY=VALUE,KEY=VALUE, what is special in a value percent-encoded";

/// Reads `KEY=VALUE,KEY=VALUE` with percent-encoded values: headers and resource attributes.
fn read_pairs(var: Var<'_>) -> Result<Vec<(String, String)>, SettingError> {
    let mut pairs = Vec::new();
    for (index, entry) in
        var.value.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty())
    {
        let error = || hidden(var.error(format!("entry {} is not KEY=VALUE", index + 1), PAIRS));
        let (key, value) = entry.split_once('=').ok_or_else(error)?;
        let (key, value) =
            (key.trim(), percent_decode_str(value.trim()).decode_utf8().map_err(|_| error())?);
        if key.is_empty() {
            return Err(error());
        }
        pairs.push((key.to_owned(), value.into_owned()));
    }
    Ok(pairs)
}

/// Takes the value out of an error: it may hold a credential.
fn hidden(error: SettingError) -> SettingError {
    if error.variable.ends_with("HEADERS") {
        SettingError { value: "***".to_owned(), ..error }
    } else {
        error
    }
}

fn milliseconds(var: Var<'_>) -> Result<Duration, SettingError> {
    match var.value.parse() {
        Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => {
            Err(var
                .error("not such a number", "write whole milliseconds, 1 or more, without a unit"))
        }
    }
}

/// Defaults: OpenTelemetry specification, "Batch Span Processor".
fn read_batch(vars: Vars<'_>) -> Result<BatchSettings, SettingError> {
    let size = |name, default| vars.get(name).map_or(Ok(default), |var| var.number(1..=1_000_000));
    let time =
        |name, default| vars.get(name).map_or(Ok(Duration::from_millis(default)), milliseconds);
    let max_queue_size = size("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?;
    let batch_size = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    let max_export_batch_size = size(batch_size, 512.min(max_queue_size))?;
    if let Some(var) = vars.get(batch_size)
        && max_export_batch_size > max_queue_size
    {
        return Err(var.error(
            format!("more than the queue holds ({max_queue_size})"),
            "raise OTEL_BSP_MAX_QUEUE_SIZE",
        ));
    }
    Ok(BatchSettings {
        schedule_delay: time("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
        export_timeout: time("OTEL_BSP_EXPORT_TIMEOUT", 30_000)?,
        max_queue_size,
        max_export_batch_size,
    })
}

fn read_sampler(vars: Vars<'_>) -> Result<SamplerSettings, SettingError> {
    let Some(var) = vars.get("OTEL_TRACES_SAMPLER") else {
        return Ok(SamplerSettings { parent_based: true, root: RootSampler::AlwaysOn });
    };
    let (parent_based, name) = match var.value.strip_prefix("parentbased_") {
        Some(name) => (true, name),
        None => (false, var.value),
    };
    let root = match name {
        "always_on" => RootSampler::AlwaysOn,
        "always_off" => RootSampler::AlwaysOff,
        "traceidratio" => RootSampler::TraceIdRatio(match vars.get("OTEL_TRACES_SAMPLER_ARG") {
            None => 1.0,
            Some(arg) => match arg.value.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
                _ => return Err(arg.error("no ratio", "write a number from 0 to 1")),
            },
        }),
        _ => {
            let known =
                "use always_on, always_off or traceidratio, or one of these after parentbased_";
            return Err(var.error("unknown sampler", known));
        }
    };
    Ok(SamplerSettings { parent_based, root })
}

fn read_propagators(vars: Vars<'_>) -> Result<Vec<PropagatorName>, SettingError> {
    let Some(var) = vars.get("OTEL_PROPAGATORS") else {
        return Ok(vec![PropagatorName::TraceContext, PropagatorName::Baggage]);
    };
    if var.value == "none" {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for word in var.value.split(',').map(str::trim) {
        let name = match word {
            "tracecontext" => PropagatorName::TraceContext,
            "baggage" => PropagatorName::Baggage,
            "xray" => PropagatorName::Xray,
            _ => {
                let known =
                    "use tracecontext, baggage and xray, separated by commas, or none alone";
                return Err(var.error(format!("unknown propagator `{word}`"), known));
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// `OTEL_SERVICE_NAME` comes before `service.name` among the attributes (OpenTelemetry specification, "General SDK
/// Configuration"); of a key given twice the last value counts.
fn read_resource(vars: Vars<'_>) -> Result<Vec<(String, String)>, SettingError> {
    let mut attributes =
        vars.get("OTEL_RESOURCE_ATTRIBUTES").map(read_pairs).transpose()?.unwrap_or_default();
    if let Some(var) = vars.get("OTEL_SERVICE_NAME") {
        attributes.push(("service.name".to_owned(), var.value.to_owned()));
    }
    let mut unique: Vec<(String, String)> = Vec::new();
    for (key, value) in attributes {
        unique.retain(|(known, _)| *known != key);
        unique.push((key, value));
    }
    Ok(unique)
}
