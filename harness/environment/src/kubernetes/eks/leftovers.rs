//! Clusters that runs left behind, found by their tags.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{
    super::kind::Progress,
    ASK_LIMIT, DELETE_LIMIT, delete_by_name,
    found::{clusters, field, find},
    program::eksctl,
};
use crate::EnvironmentError;

/// A cluster that a run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The cluster's name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The run's id.
    pub run_id: String,
    /// Time of creation.
    pub made: Option<SystemTime>,
    /// Time from which anyone may remove the cluster.
    pub expires: Option<SystemTime>,
}

impl Leftover {
    /// Returns whether the cluster has expired.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Returns whether the cluster was created at least `age` ago.
    pub fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        self.made.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since >= age))
    }

    /// Returns the command that removes the cluster.
    pub fn removal(&self) -> String {
        format!("eksctl {}", delete_by_name(&self.name, &self.region).join(" "))
    }
}

/// Lists all clusters of a region that runs created, including those still in use.
///
/// # Errors
/// If eksctl fails, or its output cannot be read.
pub async fn find_leftovers(region: &str) -> Result<Vec<Leftover>, EnvironmentError> {
    let said =
        eksctl(&["get", "cluster", "--region", region, "-o", "json"], ASK_LIMIT, None).await?;
    let mut leftovers = Vec::new();
    for cluster in clusters(&said.stdout)? {
        let metadata = field(&cluster, "metadata").unwrap_or(&cluster);
        let Some(name) = field(metadata, "name").and_then(Value::as_str) else { continue };
        let Some(found) = find(name, region).await? else { continue };
        // Without a run's tag it is somebody else's.
        let Some(run_id) = found.run else { continue };
        leftovers.push(Leftover {
            name: name.to_owned(),
            region: region.to_owned(),
            run_id,
            made: found.made,
            expires: found.expires,
        });
    }
    Ok(leftovers)
}

/// Deletes a cluster, if it still belongs to the run.
///
/// # Errors
/// When eksctl does not delete it, or not in time.
pub async fn remove_leftover(
    leftover: &Leftover,
    progress: Progress<'_>,
) -> Result<(), EnvironmentError> {
    let found = find(&leftover.name, &leftover.region).await?;
    if found.and_then(|found| found.run).as_ref() != Some(&leftover.run_id) {
        return Ok(());
    }
    progress(&format!(
        "eks: deleting cluster `{}`, which takes 10 minutes and more",
        leftover.name
    ));
    let words = delete_by_name(&leftover.name, &leftover.region);
    eksctl(&words, DELETE_LIMIT, Some(progress)).await.map(drop)
}
