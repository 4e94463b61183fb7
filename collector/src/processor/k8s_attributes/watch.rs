//! Kubernetes' API, watched: the only part that knows a client of it.
//!
//! Each kind has a task of its own, which lists its objects, follows their changes, and after a broken watch begins anew, with growing
//! waits. Pods come last at a start, so that who made them is known by then.

mod access;
mod item;

use std::collections::HashSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::access::described;
use self::item::Item;
use super::attribute::Attribute;
use super::config::{Config, FieldOperation, LabelOperation};
use super::kind::Kind;
use super::object::Object;
use super::table::Table;

/// How many objects an answer may have: what it comes to is in memory for a moment.
const PAGE: u32 = 100;
/// How long to wait before the API is asked again at a start.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one attempt at a start may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Watches, for as long as this is held.
pub(super) struct Watching {
    _tasks: JoinSet<()>,
}

/// Begins to watch, and waits until the API has let it in, or until all is known.
pub(super) async fn start(
    config: &Config,
    id: &str,
    service_account: &Path,
    table: &Arc<Table>,
) -> Result<Watching, String> {
    let deadline = Instant::now() + config.wait_for_metadata_timeout;
    let client = access::client(config, service_account).await?;
    // Whoever may not list does not learn so from a watch that is tried again and again.
    for kind in config.kinds().into_iter().chain([Kind::Pod]) {
        let what = api::<PartialObjectMeta<Item>>(&client, kind, config);
        let params = selected(ListParams::default().limit(1), kind, config);
        let mut last = format!("no answer within {:?}", config.wait_for_metadata_timeout);
        loop {
            let attempt = deadline.min(Instant::now() + ATTEMPT);
            match timeout_at(attempt, what.list(&params)).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) if access::is_final(&error) => {
                    return Err(refused(&client_place(config), kind, &error));
                }
                Ok(Err(error)) => last = described(&error),
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(format!(
                    "Kubernetes' API at {} cannot be reached: {last}; see that the cluster is up and that a network policy lets the collector reach it, or set `passthrough: true` to do without",
                    client_place(config)
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    let mut tasks = JoinSet::new();
    let mut before = Vec::new();
    for kind in config.kinds() {
        let (is_listed, listed) = watch::channel(false);
        before.push(listed);
        let objects = api::<PartialObjectMeta<Item>>(&client, kind, config);
        let stream = watcher::watcher(objects, watched(kind, config));
        let stream = stream.map_ok(|event| mapped(event, metadata));
        let follower = follower(kind, id, table, is_listed);
        tasks.spawn(async move { follower.follow(stream).await });
    }
    let (is_listed, mut listed) = watch::channel(false);
    let follower = follower(Kind::Pod, id, table, is_listed);
    let pods = api::<Item>(&client, Kind::Pod, config);
    let watched = watched(Kind::Pod, config);
    tasks.spawn(async move {
        for mut listed in before {
            // One that cannot be listed later holds no pods up for ever.
            let _ = timeout_at(deadline, listed.wait_for(|is| *is)).await;
        }
        let stream = watcher::watcher(pods, watched).map_ok(|event| mapped(event, Item::into));
        follower.follow(stream).await;
    });
    let table = Arc::clone(table);
    tasks.spawn(async move {
        loop {
            let next = table.forget_ended();
            let soon = Instant::now() + Duration::from_secs(1);
            sleep_until(next.map_or(soon, |next| next.max(soon))).await;
        }
    });
    if config.wait_for_metadata && timeout_at(deadline, listed.wait_for(|is| *is)).await.is_err() {
        return Err(format!(
            "the pods of the cluster were not all known within {:?}; give `wait_for_metadata_timeout` more time, or watch fewer by `filter`",
            config.wait_for_metadata_timeout
        ));
    }
    Ok(Watching { _tasks: tasks })
}

/// The API in words.
fn client_place(config: &Config) -> String {
    access::place(config)
}

fn refused(place: &str, kind: Kind, error: &kube::Error) -> String {
    let (group, plural, _) = kind.of_resource();
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    format!(
        "Kubernetes' API at {place} refuses: {}; give the collector's service account the right to `get`, `list` and `watch` `{plural}{group}` (`tracecheck manifests` prints it), or take what needs it out of `extract`",
        described(error)
    )
}

fn follower(kind: Kind, id: &str, table: &Arc<Table>, is_listed: watch::Sender<bool>) -> Follower {
    Follower { kind, id: id.to_owned(), table: Arc::clone(table), is_listed }
}

/// The part of the API that has a kind, within the namespace that is watched.
fn api<K>(client: &Client, kind: Kind, config: &Config) -> Api<K>
where
    K: kube::Resource<DynamicType = Kind, Scope = kube::core::DynamicResourceScope>,
{
    let namespace = config.filter.namespace.as_str();
    match kind.is_of_cluster() || namespace.is_empty() {
        true => Api::all_with(client.clone(), &kind),
        false => Api::namespaced_with(client.clone(), namespace, &kind),
    }
}

/// The selectors of fields and of labels for a kind.
fn selectors(kind: Kind, config: &Config) -> (String, String) {
    let (mut fields, mut labels) = (Vec::new(), Vec::new());
    match kind {
        Kind::Pod => {
            for filter in &config.filter.fields {
                let sign = match filter.op {
                    FieldOperation::Equals => "=",
                    FieldOperation::NotEquals => "!=",
                };
                fields.push(format!("{}{sign}{}", filter.key, escaped(&filter.value)));
            }
            for filter in &config.filter.labels {
                let (key, value) = (&filter.key, &filter.value);
                labels.push(match filter.op {
                    LabelOperation::Equals => format!("{key}={value}"),
                    LabelOperation::NotEquals => format!("{key}!={value}"),
                    LabelOperation::Exists => key.clone(),
                    LabelOperation::DoesNotExist => format!("!{key}"),
                });
            }
            fields.extend(config.node().map(|node| format!("spec.nodeName={node}")));
        }
        Kind::Node => fields.extend(config.node().map(|node| format!("metadata.name={node}"))),
        Kind::Namespace => {
            let fields_of = config.extract.labels.iter().chain(&config.extract.annotations);
            let mut others = fields_of.filter(|field| field.kind == kind);
            if others.next().is_none() && config.has(Attribute::ClusterUid) {
                fields.push("metadata.name=kube-system".to_owned());
            }
        }
        _ => {}
    }
    (fields.join(","), labels.join(","))
}

/// A value in a selector of fields.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn selected(mut params: ListParams, kind: Kind, config: &Config) -> ListParams {
    let (fields, labels) = selectors(kind, config);
    params.field_selector = Some(fields).filter(|fields| !fields.is_empty());
    params.label_selector = Some(labels).filter(|labels| !labels.is_empty());
    params
}

fn watched(kind: Kind, config: &Config) -> watcher::Config {
    let (fields, labels) = selectors(kind, config);
    watcher::Config {
        field_selector: Some(fields).filter(|fields| !fields.is_empty()),
        label_selector: Some(labels).filter(|labels| !labels.is_empty()),
        ..watcher::Config::default().page_size(PAGE)
    }
}

fn metadata(partial: PartialObjectMeta<Item>) -> Object {
    Item { metadata: partial.metadata, ..Item::default() }.into()
}

fn mapped<K>(event: Event<K>, object: impl FnOnce(K) -> Object) -> Event<Object> {
    match event {
        Event::Apply(item) => Event::Apply(object(item)),
        Event::Delete(item) => Event::Delete(object(item)),
        Event::InitApply(item) => Event::InitApply(object(item)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// Keeps the table as a kind's watch has it.
struct Follower {
    kind: Kind,
    id: String,
    table: Arc<Table>,
    is_listed: watch::Sender<bool>,
}

impl Follower {
    async fn follow(self, stream: impl Stream<Item = watcher::Result<Event<Object>>>) {
        let mut events = pin!(stream.default_backoff());
        let (mut seen, mut is_broken) = (HashSet::new(), false);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if std::mem::take(&mut is_broken) {
                        let kind = self.kind.name();
                        tracing::info!(processor = self.id, kind, "the cluster is watched again");
                    }
                    self.take(event, &mut seen);
                }
                Err(error) => {
                    self.table.broken.add(1);
                    // What is known stays; it is said once, and not at every attempt.
                    if !std::mem::replace(&mut is_broken, true) {
                        tracing::warn!(
                            processor = self.id,
                            kind = self.kind.name(),
                            error = access::chained(&error),
                            "a watch of the cluster broke; what was known so far is used until it is back"
                        );
                    }
                }
            }
        }
    }

    fn take(&self, event: Event<Object>, seen: &mut HashSet<String>) {
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(object) => {
                seen.insert(object.uid.clone());
                self.table.apply(self.kind, &object);
            }
            Event::InitDone => {
                self.table.keep_only(self.kind, seen);
                *seen = HashSet::new();
                self.is_listed.send_replace(true);
            }
            Event::Apply(object) => self.table.apply(self.kind, &object),
            Event::Delete(object) => self.table.delete(self.kind, &object),
        }
    }
}

#[cfg(test)]
mod tests;
