//! Runs a command of `tracecheck` inside a pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::pods::PodState;
use crate::image::PROGRAM;

/// Most of what a command says that is kept: bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// Runs `tracecheck inside …` in a pod and waits for its end.
///
/// # Errors
/// What it said, or why it could not be run.
pub(super) async fn inside(
    pods: &Api<Pod>,
    pod: &PodState,
    words: &[String],
    limit: Duration,
) -> Result<(), String> {
    let command =
        [PROGRAM.to_owned(), "inside".to_owned()].into_iter().chain(words.iter().cloned());
    let params = AttachParams::default().container(&pod.container);
    let run = async {
        let process = pods.exec(&pod.name, command, &params).await;
        let mut process = process.map_err(|error| super::cluster::described(&error))?;
        let status = process.take_status();
        let said = output(&mut process).await;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
            Some(status) => {
                let message = status.message.unwrap_or_default();
                Err(if said.trim().is_empty() { message } else { said.trim().to_owned() })
            }
            None => Err("the connection ended before the command did".to_owned()),
        }
    };
    match tokio::time::timeout(limit, run).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("it did not end within {limit:?}")),
    }
}

/// All that it says. It must be read, or the command waits for it.
async fn output(process: &mut AttachedProcess) -> String {
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
    format!("{stdout}{stderr}")
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _as_far_as_it_goes = (&mut from).take(MAX_OUTPUT).read_to_end(&mut bytes).await;
        let _the_rest = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
