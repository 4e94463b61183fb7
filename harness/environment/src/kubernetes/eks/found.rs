//! Clusters that are there, as eksctl lists them.

use std::time::SystemTime;

use serde_json::Value;

use super::{
    super::names::{EXPIRES, RUN},
    ASK_LIMIT,
    config::MADE,
    program::eksctl,
    unavailable,
};
use crate::EnvironmentError;

/// A cluster that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The run that made it, by its tag.
    pub(super) run: Option<String>,
    /// When it was made, by its tag.
    pub(super) made: Option<SystemTime>,
    /// When it may be removed, by its tag.
    pub(super) expires: Option<SystemTime>,
    /// On AWS.
    arn: Option<String>,
}

impl Found {
    /// The ARN of a role in the cluster's account.
    pub(super) fn role_arn(&self, role: &str) -> Option<String> {
        let parts: Vec<&str> = self.arn.as_deref()?.split(':').collect();
        match parts[..] {
            ["arn", partition, "eks", _, account, ..] => {
                Some(format!("arn:{partition}:iam::{account}:role/{role}"))
            }
            _ => None,
        }
    }

    pub(super) fn of(cluster: &Value) -> Self {
        let tags = field(cluster, "tags");
        let tag = |key: &str| tags?.get(key)?.as_str().map(ToOwned::to_owned);
        let at = |key: &str| humantime::parse_rfc3339(&tag(key)?).ok();
        Self {
            run: tag(RUN),
            made: at(MADE),
            expires: at(EXPIRES),
            arn: field(cluster, "arn").and_then(Value::as_str).map(ToOwned::to_owned),
        }
    }
}

/// A field whatever its case: versions of eksctl differ in it.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut fields = value.as_object()?.iter();
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The cluster of that name, if it is there.
pub(super) async fn find(name: &str, region: &str) -> Result<Option<Found>, EnvironmentError> {
    let words = ["get", "cluster", "--name", name, "--region", region, "-o", "json"];
    match eksctl(&words, ASK_LIMIT, None).await {
        Ok(said) => Ok(clusters(&said.stdout)?.first().map(Found::of)),
        Err(error) if is_not_found(&error.to_string()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_not_found(said: &str) -> bool {
    ["ResourceNotFoundException", "No cluster found", "not found for name"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// The list that eksctl printed.
pub(super) fn clusters(stdout: &str) -> Result<Vec<Value>, EnvironmentError> {
    if stdout.trim().is_empty() || stdout.trim() == "null" {
        return Ok(Vec::new());
    }
    serde_json::from_str(stdout).map_err(|error| {
        unavailable(
            format!("what eksctl says of clusters is not a JSON list: {error}"),
            "look at what `eksctl get cluster -o json` prints",
        )
    })
}
