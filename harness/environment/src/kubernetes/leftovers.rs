//! Namespaces that runs left behind: those of runs that were killed, or that a cluster did not let go.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Client,
    api::{DeleteParams, ListParams, Preconditions},
};
use tokio::time::timeout;

use super::{
    CALL_LIMIT, cluster,
    names::{EXPIRES, MANAGED_BY, MANAGER, RUN},
    typed::Typed,
};
use crate::EnvironmentError;

/// How long the namespaces together may take to be gone.
const DELETE_LIMIT: Duration = Duration::from_secs(120);

/// A namespace of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name.
    pub namespace: String,
    /// The run's id.
    pub run_id: String,
    /// Time of creation.
    pub created: SystemTime,
    /// Time from which anyone may remove the namespace.
    pub expires: Option<SystemTime>,
    uid: String,
}

impl Leftover {
    fn of(namespace: &Namespace) -> Option<Self> {
        let metadata = &namespace.metadata;
        let labels = metadata.labels.as_ref()?;
        let created = metadata.creation_timestamp.as_ref()?.0;
        let annotations = metadata.annotations.as_ref();
        let expires = annotations.and_then(|all| all.get(EXPIRES));
        Some(Self {
            namespace: metadata.name.clone()?,
            // Without a run's label it is one that a user made of printed manifests, and keeps.
            run_id: labels.get(RUN)?.clone(),
            created: created.into(),
            expires: expires.and_then(|at| humantime::parse_rfc3339(at).ok()),
            uid: metadata.uid.clone()?,
        })
    }

    /// Returns whether the namespace was created at least `age` ago.
    pub fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(self.created).is_ok_and(|since| since >= age)
    }

    /// Returns whether the namespace has expired.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// Lists the namespaces of all runs, including those still in progress.
///
/// # Errors
/// If the cluster cannot be queried.
pub async fn find(
    environment: &'static str,
    client: &Client,
) -> Result<Vec<Leftover>, EnvironmentError> {
    let failed = |reason: String| EnvironmentError::Backend {
        environment,
        what: "list the namespaces of runs".to_owned(),
        reason,
    };
    let selector = format!("{MANAGED_BY}={MANAGER},{RUN}");
    let namespaces = Typed::<Namespace>::all(client);
    let params = ListParams::default().labels(&selector);
    match timeout(CALL_LIMIT, namespaces.list(&params)).await {
        Ok(Ok(list)) => Ok(list.iter().filter_map(Leftover::of).collect()),
        Ok(Err(error)) => {
            Err(failed(format!("{}; {}", cluster::described(&error), cluster::remedy(&error))))
        }
        Err(_) => Err(failed(format!("the API server did not answer within {CALL_LIMIT:?}"))),
    }
}

/// Deletes namespaces of runs, and waits until they are gone.
///
/// # Errors
/// The first that cannot be removed, after all were tried.
pub async fn remove(
    environment: &'static str,
    client: &Client,
    leftovers: &[Leftover],
) -> Result<(), EnvironmentError> {
    let removals = leftovers.iter().map(|leftover| async move {
        let namespaces = Typed::<Namespace>::all(client);
        let failed = |reason: String| EnvironmentError::Backend {
            environment,
            what: format!("delete the namespace `{}`", leftover.namespace),
            reason,
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(leftover.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match namespaces.delete(&leftover.namespace, &params).await {
            Ok(()) => {}
            // Gone already, or another one by now.
            Err(error) if matches!(cluster::code(&error), Some(404 | 409)) => return Ok(()),
            Err(error) => return Err(failed(cluster::described(&error))),
        }
        let gone = namespaces.await_deleted(&leftover.namespace, &leftover.uid);
        match timeout(DELETE_LIMIT, gone).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(harness_core::chain_of(&error))),
            Err(_) => Err(failed(format!("it is not gone after {DELETE_LIMIT:?}"))),
        }
    });
    join_all(removals).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_namespaces_of_runs_are_found_and_their_age_is_reported() {
        let namespace = |labels: serde_json::Value| {
            let value = json!({ "metadata": {
                "name": "tracecheck-1-0", "uid": "u", "labels": labels,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": { EXPIRES: "2026-01-02T00:00:00Z" },
            } });
            serde_json::from_value::<Namespace>(value).unwrap()
        };
        assert_eq!(Leftover::of(&namespace(json!({ MANAGED_BY: MANAGER }))), None);
        let leftover = Leftover::of(&namespace(json!({ MANAGED_BY: MANAGER, RUN: "1" }))).unwrap();
        let at = |text: &str| humantime::parse_rfc3339(text).unwrap();
        assert_eq!(leftover.run_id, "1");
        assert!(leftover.is_older_than(Duration::from_secs(3600), at("2026-01-01T01:00:00Z")));
        assert!(!leftover.is_older_than(Duration::from_secs(3601), at("2026-01-01T01:00:00Z")));
        assert!(leftover.has_expired(at("2026-01-02T00:00:00Z")));
        assert!(!leftover.has_expired(at("2026-01-01T23:59:59Z")));
    }
}
