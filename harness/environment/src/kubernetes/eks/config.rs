//! eksctl's configuration: what is read of it, and what a run adds.

use std::{fs, path::Path, time::SystemTime};

use serde_json::{Value, json};

use super::{
    super::names::{EXPIRES, MANAGED_BY, MANAGER, RUN},
    unavailable,
};
use crate::EnvironmentError;

/// Tag: when the cluster was made; RFC 3339.
pub(super) const MADE: &str = "tracecheck/made";

/// A `ClusterConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    value: Value,
    /// The cluster's name.
    pub name: String,
    /// Its region on AWS.
    pub region: String,
    /// Name of the role that the collector's account stands for.
    pub role_name: Option<String>,
}

impl Config {
    /// Reads a cluster's configuration, with another name or region where these are given.
    ///
    /// # Errors
    /// When it cannot be read, or is no `ClusterConfig`.
    pub fn read(
        path: &Path,
        name: Option<&str>,
        region: Option<&str>,
    ) -> Result<Self, EnvironmentError> {
        let text = fs::read_to_string(path).map_err(super::io_error("read", path))?;
        Self::parse(&path.display().to_string(), &text, name, region)
    }

    /// Reads the text of one; `file` is for messages.
    ///
    /// # Errors
    /// When it is no `ClusterConfig`.
    pub fn parse(
        file: &str,
        text: &str,
        name: Option<&str>,
        region: Option<&str>,
    ) -> Result<Self, EnvironmentError> {
        let wrong = |what: String| unavailable(what, "mend the file");
        let parsed = harness_core::source::read_yaml::<Value>(file, text);
        let mut value = parsed.map_err(|finding| wrong(finding.to_string()))?;
        if value["kind"] != "ClusterConfig" {
            return Err(wrong(format!(
                "{file}: `kind` is not `ClusterConfig`, as in a configuration of eksctl"
            )));
        }
        for part in ["metadata", "iam"] {
            if !(value[part].is_object() || value[part].is_null()) {
                return Err(wrong(format!("{file}: `{part}` is not a mapping")));
            }
        }
        let of_file = |key: &str| value["metadata"][key].as_str().map(ToOwned::to_owned);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = name.map(ToOwned::to_owned).or_else(|| of_file("name"));
        let name = found.ok_or_else(|| wrong(format!("{file}: `metadata.name` is missing")))?;
        let found = region.map(ToOwned::to_owned).or_else(|| of_file("region"));
        let found =
            found.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = found.ok_or_else(|| {
            wrong(format!("{file}: `metadata.region` is missing, and neither `--eks-region` nor AWS_REGION says it"))
        })?;
        value["metadata"]["name"] = json!(name);
        value["metadata"]["region"] = json!(region);
        let accounts = value["iam"]["serviceAccounts"].as_array();
        let role_name = accounts.into_iter().flatten().find_map(|account| {
            let is_ours = account["metadata"]["name"] == super::super::names::COLLECTOR_ACCOUNT;
            is_ours.then(|| account["roleName"].as_str().map(ToOwned::to_owned)).flatten()
        });
        Ok(Self { value, name, region, role_name })
    }

    /// Describes the cluster's nodes, for example `2 x t3.medium`.
    pub fn nodes(&self) -> String {
        let groups = self.value["managedNodeGroups"].as_array();
        let words = groups.into_iter().flatten().map(|group| {
            let kind = match group["instanceType"].as_str() {
                Some(kind) => kind.to_owned(),
                None => group["instanceTypes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(" or "),
            };
            let spot = if group["spot"] == true { " (spot)" } else { "" };
            format!("{} x {kind}{spot}", group["desiredCapacity"].as_u64().unwrap_or(2))
        });
        let words: Vec<String> = words.collect();
        if words.is_empty() { "no node of a managed group".to_owned() } else { words.join(" + ") }
    }

    /// Its text for a run: tagged with the run, and the collector's role for the account in that namespace.
    pub(super) fn of_run(
        &self,
        run_id: &str,
        namespace: &str,
        now: SystemTime,
        expires: SystemTime,
    ) -> Result<String, EnvironmentError> {
        let mut value = self.value.clone();
        let at = |time| humantime::format_rfc3339_seconds(time).to_string();
        let tags = [
            (MANAGED_BY, MANAGER.to_owned()),
            (RUN, run_id.to_owned()),
            (MADE, at(now)),
            (EXPIRES, at(expires)),
        ];
        if !value["metadata"]["tags"].is_object() {
            value["metadata"]["tags"] = json!({});
        }
        for (key, text) in tags {
            value["metadata"]["tags"][key] = json!(text);
        }
        if let Some(accounts) =
            value.pointer_mut("/iam/serviceAccounts").and_then(Value::as_array_mut)
        {
            let ours = accounts.iter_mut().filter(|account| {
                account["roleOnly"] == true
                    && account["metadata"]["name"] == super::super::names::COLLECTOR_ACCOUNT
            });
            for account in ours {
                account["metadata"]["namespace"] = json!(namespace);
            }
        }
        serde_saphyr::to_string(&value).map_err(|error| {
            unavailable(format!("the configuration cannot be written: {error}"), "mend the file")
        })
    }
}
