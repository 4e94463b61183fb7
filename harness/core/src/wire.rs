//! Actions of something that stands between two workloads on the requests that pass: asked for by scenarios, done by the built-in `tap`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The subcommand that stands there.
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
    /// Only to the next so many; `None` for all.
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
    /// It is delivered twice; the sender sees the second answer.
    Duplicate,
    /// It is not delivered, and the sender is answered that all is well.
    Swallow,
    /// It is not delivered, and the sender is answered this HTTP status.
    Status(u16),
    /// It is delivered this much later.
    Delay(Duration),
    /// Nothing: it is passed on as it came.
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
    /// Requests that it could have done something to.
    pub passed: u64,
    /// Those of them that it did something to.
    pub changed: u64,
}
