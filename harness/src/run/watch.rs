//! Looking at a run while it goes on: what events do not carry, since reports need it at the end only.

use std::sync::Arc;

use crate::{intake::client::IntakeClient, record::Record, verdict::ScenarioResult};

/// Observer of a run in progress.
pub trait Watch: Send + Sync {
    /// Notifies that the system of these scenarios is ready, and its intake can be read.
    fn up(&self, scenarios: &[String], intake: &Arc<IntakeClient>);

    /// Notifies that a scenario was judged, for the first time or again.
    fn judged(&self, record: &Record, result: &ScenarioResult);

    /// Notifies that the system of these scenarios is about to be taken down, with its intake.
    fn down(&self, scenarios: &[String]);
}
