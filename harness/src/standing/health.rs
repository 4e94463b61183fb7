//! Health of each part of a standing system.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use tokio::{net::TcpStream, time};

use super::{Instance, Standing};

/// How long a part may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// By workload and instance: `None` where it can be used, else why not.
pub type Health = BTreeMap<(String, String), Option<String>>;

/// Checks every instance, all at the same time, in at most 2 s. An instance without a health route has to accept
/// connections at all its ports.
pub async fn health(standing: &Standing) -> Health {
    let Ok(client) = crate::http::client().timeout(LIMIT).build() else { return Health::new() };
    let looks = standing.workloads.iter().flat_map(|(name, part)| {
        let client = &client;
        part.instances.iter().map(move |instance| async move {
            let trouble = match &part.ended {
                Some(how) => Some(format!("ended by itself ({how})")),
                None => trouble(client, instance).await,
            };
            ((name.clone(), instance.name.clone()), trouble)
        })
    });
    join_all(looks).await.into_iter().collect()
}

async fn trouble(client: &reqwest::Client, instance: &Instance) -> Option<String> {
    if let Some(url) = &instance.health {
        return match client.get(url).send().await {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("{url} answers {}", response.status())),
            Err(error) if error.is_timeout() => {
                Some(format!("{url} does not answer within {LIMIT:?}"))
            }
            Err(_) => Some(format!("{url} does not answer")),
        };
    }
    for (port, address) in &instance.ports {
        if !matches!(time::timeout(LIMIT, TcpStream::connect(address)).await, Ok(Ok(_))) {
            return Some(format!("port `{port}` ({address}) accepts no connections"));
        }
    }
    None
}
