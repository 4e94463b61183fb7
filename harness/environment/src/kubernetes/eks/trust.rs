//! Trust in the collector's role: its account may take it in every namespace of the run.
//!
//! eksctl writes a trust policy for one account in one namespace, and its configuration has no way to say more. Each system of a run
//! has a namespace of its own, so the policy is changed with the program `aws` when the role is there, as AWS describes it for several
//! namespaces: the subject is compared as a pattern.

use serde_json::{Value, json};

use super::{super::names::COLLECTOR_ACCOUNT, ASK_LIMIT, program::aws, unavailable};
use crate::EnvironmentError;

/// Lets the collector's account of every namespace of the run take the role.
///
/// # Errors
/// When `aws` is not there or refuses, or the policy is none of eksctl's.
pub(super) async fn widen(role: &str, run_id: &str) -> Result<(), EnvironmentError> {
    let said =
        aws(&["iam", "get-role", "--role-name", role, "--output", "json"], ASK_LIMIT).await?;
    let reported = serde_json::from_str::<Value>(&said.stdout).unwrap_or_default();
    let policy =
        widened(&reported["Role"]["AssumeRolePolicyDocument"], run_id).ok_or_else(|| {
            unavailable(
                format!("the trust policy of the role `{role}` names no account of this run"),
                "look at `aws iam get-role`",
            )
        })?;
    let policy = policy.to_string();
    let words =
        ["iam", "update-assume-role-policy", "--role-name", role, "--policy-document", &policy];
    aws(&words, ASK_LIMIT).await.map(drop)
}

/// The namespace of a run's first system, which eksctl is given.
pub(super) fn first_namespace(run_id: &str) -> String {
    format!("tracecheck-{run_id}-0")
}

/// A trust policy in which the subject is a pattern; `None` where it does not name the first system's account.
pub(super) fn widened(policy: &Value, run_id: &str) -> Option<Value> {
    let account =
        |namespace: &str| format!("system:serviceaccount:{namespace}:{COLLECTOR_ACCOUNT}");
    let (one, all) =
        (account(&first_namespace(run_id)), account(&format!("tracecheck-{run_id}-*")));
    let mut policy = policy.clone();
    let mut found = false;
    for statement in policy["Statement"].as_array_mut()? {
        let Some(equal) = statement.pointer_mut("/Condition/StringEquals") else { continue };
        let Some(equal) = equal.as_object_mut() else { continue };
        let subject = equal.iter().find(|(key, value)| key.ends_with(":sub") && **value == one);
        let Some(key) = subject.map(|(key, _)| key.clone()) else { continue };
        equal.remove(&key);
        found = true;
        // The audience stays compared as it was.
        statement["Condition"]["StringLike"][&key] = json!(all);
    }
    found.then_some(policy)
}
