//! Settings of one sample app from its environment: read once, checked, complete.
//!
//! Nothing here reads the process's environment; the caller passes the variables in. An empty variable counts as
//! unset, as the OpenTelemetry specification asks. A value that cannot be used is an error, never ignored.

pub mod telemetry;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

use crate::fault::standing::StandingFaults;
use crate::fault::{self, FaultKind};
use crate::ledger::LedgerLimits;
use telemetry::TelemetrySettings;

/// One sample app's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The workload's name, by which faults address it (`NAME`).
    pub name: String,
    /// Listen address (`LISTEN_ADDR`); port 0 takes a free one.
    pub listen_addr: SocketAddr,
    /// Base URLs of the next apps, called in this order (`UPSTREAM_URIS`); none = the end of the chain.
    pub upstreams: Vec<Url>,
    /// URL that `/outgoing-http-call` calls (`OUTGOING_HTTP_CALL_URL`).
    pub outgoing_http_call_url: Option<Url>,
    /// The limit of one try of an outgoing call, its answer's body included (`HTTP_CLIENT_REQUEST_TIMEOUT`).
    pub client_timeout: Duration,
    /// Number of retries of a failed outgoing call, 0 or 1 (`HTTP_CLIENT_RETRIES`).
    pub client_retries: u32,
    /// Faults of every request.
    pub faults: StandingFaults,
    /// The OpenTelemetry SDK's settings.
    pub telemetry: TelemetrySettings,
    /// Limits of the ledger.
    pub ledger: LedgerLimits,
    /// Time for requests in flight to complete after the app was asked to stop.
    pub drain_timeout: Duration,
    /// Time for the exporter to send the last spans.
    pub flush_timeout: Duration,
}

impl Settings {
    /// Reads the settings from environment variables.
    ///
    /// # Errors
    ///
    /// The first variable whose value cannot be used.
    pub fn from_vars(vars: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let vars = Vars(vars);
        Ok(Self {
            name: read_name(vars)?,
            listen_addr: vars
                .parse(
                    "LISTEN_ADDR",
                    "write IP:PORT, such as 127.0.0.1:8080; port 0 takes a free one",
                )?
                .unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))),
            upstreams: read_upstreams(vars)?,
            outgoing_http_call_url: vars
                .get("OUTGOING_HTTP_CALL_URL")
                .map(|var| var.url(var.value, "write a URL such as http://127.0.0.1:9090/path"))
                .transpose()?,
            client_timeout: read_client_timeout(vars)?,
            client_retries: read_client_retries(vars)?,
            faults: read_standing_faults(vars)?,
            telemetry: TelemetrySettings::from_vars(vars)?,
            ledger: LedgerLimits::default(),
            drain_timeout: Duration::from_secs(5),
            flush_timeout: Duration::from_secs(15),
        })
    }
}

/// A variable whose value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value}: {problem}; {remedy}")]
pub struct SettingError {
    variable: &'static str,
    value: String,
    problem: String,
    remedy: String,
}

/// The environment as settings see it.
#[derive(Clone, Copy)]
struct Vars<'a>(&'a BTreeMap<String, String>);

impl<'a> Vars<'a> {
    /// Returns a variable that is set and not empty.
    fn get(self, name: &'static str) -> Option<Var<'a>> {
        let value = self.0.get(name)?.trim();
        (!value.is_empty()).then_some(Var { name, value })
    }

    /// Returns the first of these that is set: the one for traces before the one for all signals.
    fn first(self, names: [&'static str; 2]) -> Option<Var<'a>> {
        names.into_iter().find_map(|name| self.get(name))
    }

    fn parse<T>(self, name: &'static str, remedy: &str) -> Result<Option<T>, SettingError>
    where
        T: std::str::FromStr<Err: ToString>,
    {
        self.get(name).map(|var| var.parse(remedy)).transpose()
    }
}

/// One variable that is set.
#[derive(Clone, Copy)]
struct Var<'a> {
    name: &'static str,
    value: &'a str,
}

impl Var<'_> {
    fn error(self, problem: impl Into<String>, remedy: impl Into<String>) -> SettingError {
        SettingError {
            variable: self.name,
            value: format!("{:?}", self.value),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    fn parse<T>(self, remedy: &str) -> Result<T, SettingError>
    where
        T: std::str::FromStr<Err: ToString>,
    {
        self.value.parse().map_err(|error: T::Err| self.error(error.to_string(), remedy))
    }

    /// Reads a number of the range.
    fn number<T>(self, range: std::ops::RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        self.value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
            self.error("not such a number", remedy)
        })
    }

    fn duration(self) -> Result<Duration, SettingError> {
        humantime::parse_duration(self.value)
            .map_err(|error| self.error(error.to_string(), "write a duration such as 500ms or 5s"))
    }

    /// Reads an absolute `http` or `https` URL with a host; `text` is this variable's value or a part of it.
    fn url(self, text: &str, remedy: &str) -> Result<Url, SettingError> {
        let url: Url = text.parse().map_err(|error| self.error(format!("{error}"), remedy))?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(url),
            scheme => Err(self.error(format!("`{scheme}:` is neither http: nor https:"), remedy)),
        }
    }
}

fn read_name(vars: Vars<'_>) -> Result<String, SettingError> {
    let Some(var) = vars.get("NAME") else { return Ok("sample-app".to_owned()) };
    if var.value.contains([',', '=', '*']) || var.value.contains(char::is_whitespace) {
        return Err(var.error(
            "has a character that the fault header needs",
            "leave out `,`, `=`, `*` and blanks",
        ));
    }
    Ok(var.value.to_owned())
}

fn read_upstreams(vars: Vars<'_>) -> Result<Vec<Url>, SettingError> {
    let Some(var) = vars.get("UPSTREAM_URIS") else { return Ok(Vec::new()) };
    let remedy = "write the next app's base URL, such as http://127.0.0.1:8081; several are separated by commas";
    var.value.split(',').map(|text| var.url(text.trim(), remedy)).collect()
}

fn read_client_timeout(vars: Vars<'_>) -> Result<Duration, SettingError> {
    let Some(var) = vars.get("HTTP_CLIENT_REQUEST_TIMEOUT") else {
        return Ok(Duration::from_secs(5));
    };
    match var.duration()? {
        Duration::ZERO => {
            Err(var.error("no call ends within no time", "write a duration such as 500ms or 5s"))
        }
        timeout => Ok(timeout),
    }
}

fn read_client_retries(vars: Vars<'_>) -> Result<u32, SettingError> {
    vars.get("HTTP_CLIENT_RETRIES").map_or(Ok(0), |var| var.number(0..=1))
}

fn read_standing_faults(vars: Vars<'_>) -> Result<StandingFaults, SettingError> {
    let code = match vars.get("ERROR_CODE") {
        None => 500,
        Some(var) => fault::parse_error_status(var.value)
            .ok_or_else(|| var.error("no error status", "write a number from 400 to 599"))?,
    };
    let hold = |var: Var<'_>| {
        let remedy = "write a duration such as 250ms, at most 60s";
        fault::parse_hold(var.value).map_err(|problem| var.error(problem, remedy))
    };
    let delay = vars.get("ERROR_DELAY").map(hold).transpose()?;
    let error = match vars.get("ERROR_TYPE") {
        None => FaultKind::Status(code),
        Some(var) => match var.value {
            "http_error" => FaultKind::Status(code),
            "delay" => FaultKind::Delay(delay.ok_or_else(|| {
                var.error("ERROR_DELAY is not set", "set it to a duration such as 250ms")
            })?),
            "abort" => FaultKind::Abort,
            "hang" => FaultKind::Hang,
            "panic" => FaultKind::Panic,
            _ => {
                return Err(
                    var.error("unknown", "use one of http_error, delay, abort, hang, panic")
                );
            }
        },
    };
    Ok(StandingFaults {
        latency: vars.get("TIMING_50_PERCENTILE").map(hold).transpose()?.unwrap_or_default(),
        error_rate: vars
            .parse("ERROR_RATE", "write a number from 0 (never) to 1 (always)")?
            .unwrap_or_default(),
        error: Some(error),
        seed: vars.get("RAND_SEED").map_or(Ok(1), |var| var.number(0..=u64::MAX))?,
    })
}

#[cfg(test)]
mod tests;
