//! What something that stands between two workloads does to the requests that pass: said by scenarios, done by the built-in `tap`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The subcommand that stands there.
pub const TAP: &str = "tap";
/// Name of its port by which it is reported what to do, and reports what passed.
pub const CONTROL_PORT: &str = "tap-control";
/// Where it is reported, by PUT of a list of [`WireFault`].
pub const FAULTS_PATH: &str = "/faults";
/// Where it reports [`Passed`].
pub const PASSED_PATH: &str = "/passed";
/// Where it says that it is ready.
pub const HEALTH_PATH: &str = "/health";

/// What is done to requests on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireFault {
    /// What.
    pub does: WireAction,
    /// Only to the next so many; `None` for all.
    pub next: Option<u32>,
}

/// What is done to a request on its way.
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

/// What passed since a tap was last reported what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passed {
    /// Requests that it could have done something to.
    pub passed: u64,
    /// Those of them that it did something to.
    pub changed: u64,
}
