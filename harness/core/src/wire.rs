//! Faults on the wire between two workloads: requested by scenarios, applied by the built-in `tap`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The subcommand of the tap.
pub const TAP: &str = "tap";
/// Name of its port at which it is given its faults, and reports what passed.
pub const CONTROL_PORT: &str = "tap-control";
/// Path to which faults are sent, by PUT of a list of [`WireFault`].
pub const FAULTS_PATH: &str = "/faults";
/// Path of the report [`Passed`].
pub const PASSED_PATH: &str = "/passed";
/// Path of the probe for readiness.
pub const HEALTH_PATH: &str = "/health";

/// Fault of requests on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireFault {
    /// The action.
    pub does: WireAction,
    /// Number of requests that it applies to, the next ones; `None` for all.
    pub next: Option<u32>,
}

/// Action on a request on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WireAction {
    /// A header is taken out.
    DropHeader(String),
    /// A header is put in, in place of one of that name.
    SetHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A header's value is put into upper case.
    UpperCaseHeader(String),
    /// A header is sent a second time beside itself.
    DoubleHeader(String),
    /// The request is delivered twice; the sender gets the second response.
    Duplicate,
    /// The request is dropped, and the sender gets a success response.
    Swallow,
    /// The request is dropped, and the sender gets this HTTP status.
    Status(u16),
    /// The request is delayed by this.
    Delay(Duration),
    /// The request is passed on unchanged.
    Pass,
    /// A breakage of the catalogue.
    Breakage {
        /// Its name.
        name: String,
        /// The service that is called from outside.
        entry: String,
        /// The service that calls the one at which it strikes.
        caller: String,
        /// The service at which it strikes.
        at: String,
    },
}

/// Traffic that passed since a tap was last given its faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passed {
    /// Requests that a fault could have applied to.
    pub passed: u64,
    /// Requests that a fault was applied to.
    pub changed: u64,
}
