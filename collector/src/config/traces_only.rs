//! `--traces-only`: leaves out of a config for all signals what is not for traces, and says so.
//!
//! It works on the tree, before anything is decoded: what is left out need not be known, supported or right.

use std::collections::BTreeSet;

use crate::connector::ConnectorConfig;
use crate::extension::ExtensionConfig;
use crate::settings::Component;
use crate::settings::node::{Key, Node, Value};

/// The sections of components that pipelines are made of.
const SECTIONS: [&str; 4] = ["receivers", "processors", "exporters", "connectors"];
/// Types of pipelines that carry no traces.
const OTHERS: [&str; 3] = ["metrics", "logs", "profiles"];

/// Extensions that do nothing by themselves.
const AUTHENTICATORS: [&str; 2] = ["basicauth", "bearertokenauth"];

/// Keys of components for traces that are about other signals: by section and types.
const KEYS_OF_OTHERS: [(&str, &[&str], &[&str]); 2] = [
    (
        "exporters",
        &["otlphttp", "otlp_http"],
        &["metrics_endpoint", "logs_endpoint", "profiles_endpoint"],
    ),
    ("receivers", &["otlp"], &["protocols.http.metrics_url_path", "protocols.http.logs_url_path"]),
];

/// Leaves out the pipelines of other signals and what they alone use, and extensions that nothing left refers to and that are not
/// supported. Returns a note for each pipeline, and for each other thing, that is left out.
pub(super) fn leave_others_out(root: &mut Node) -> Vec<String> {
    let mut notes = Vec::new();
    let connectors = names(root.get("connectors"));
    let Some(kept) = pipelines(root) else { return notes };
    let is_other = |(key, _): &mut (Key, Node)| OTHERS.contains(&kind(&key.name));
    let others: Vec<_> = kept.extract_if(.., is_other).collect();
    let fed = |pipelines: &[(Key, Node)]| -> BTreeSet<String> {
        pipelines.iter().flat_map(|(_, pipeline)| listed(pipeline, "receivers")).collect()
    };
    let (fed_by_others, fed_by_traces) = (fed(&others), fed(kept));
    let makes_no_traces = |name: &str| {
        let is_known = ConnectorConfig::KINDS.contains(&kind(name));
        let is_for_others = fed_by_others.contains(name) && !fed_by_traces.contains(name);
        connectors.contains(name) && is_for_others && !is_known
    };
    for (key, pipeline) in kept.iter_mut() {
        for name in leave_out_of(pipeline, "exporters", &makes_no_traces) {
            let at = &pipeline.at;
            notes.push(format!("{at}: `service.pipelines.{}.exporters`: the connector `{name}` is left out, since it feeds only pipelines of other signals (`--traces-only`)", key.name));
        }
    }
    let used: BTreeSet<String> = kept
        .iter()
        .flat_map(|(_, pipeline)| SECTIONS.iter().flat_map(|section| listed(pipeline, section)))
        .collect();
    let mut said = BTreeSet::new();
    for (key, pipeline) in &others {
        let alone: Vec<_> = SECTIONS[..3]
            .iter()
            .flat_map(|section| listed(pipeline, section))
            .filter(|name| !used.contains(name) && said.insert(name.clone()))
            .map(|name| format!("`{name}`"))
            .collect();
        let with = match alone.as_slice() {
            [] => String::new(),
            alone => format!(", together with {}", alone.join(", ")),
        };
        let (at, name) = (&key.at, &key.name);
        notes
            .push(format!("{at}: `service.pipelines.{name}`: is left out{with} (`--traces-only`)"));
    }
    for section in SECTIONS {
        let Some(entries) = root.get_mut(section).and_then(entries) else { continue };
        entries.retain(|(key, _)| {
            let is_used = used.contains(&key.name);
            if !is_used && !said.contains(&key.name) && !connectors.contains(&key.name) {
                let (at, name) = (&key.at, &key.name);
                notes.push(format!("{at}: `{section}.{name}`: is left out, as no pipeline for traces uses it (`--traces-only`)"));
            }
            is_used
        });
    }
    leave_keys_out(root, &mut notes);
    leave_extensions_out(root, &mut notes);
    notes
}

/// Leaves out keys of components for traces that say where other signals come from or go to.
fn leave_keys_out(root: &mut Node, notes: &mut Vec<String>) {
    for (section, kinds, keys) in KEYS_OF_OTHERS {
        let ids: Vec<_> = names(root.get(section)).into_iter().collect();
        for id in ids.iter().filter(|id| kinds.contains(&kind(id))) {
            for key in keys {
                let path: Vec<_> =
                    [section, id.as_str()].into_iter().chain(key.split('.')).collect();
                let at = root.locate(path.iter().copied()).clone();
                if root.remove(&path).is_some() {
                    let path = path.join(".");
                    notes.push(format!(
                        "{at}: `{path}`: is left out, as it is for other signals (`--traces-only`)"
                    ));
                }
            }
        }
    }
}

/// Leaves out extensions that no component that is left names, and that are not supported or are of use to others only.
fn leave_extensions_out(root: &mut Node, notes: &mut Vec<String>) {
    let mut named = BTreeSet::new();
    for section in SECTIONS {
        if let Some(node) = root.get(section) {
            texts(node, &mut named);
        }
    }
    let is_supported = |name: &str| ExtensionConfig::KINDS.contains(&kind(name));
    let goes = |name: &str| {
        let is_for_others = !is_supported(name) || AUTHENTICATORS.contains(&kind(name));
        is_for_others && !named.contains(name)
    };
    let left_out: Vec<_> = root
        .get_mut("service")
        .map(|service| leave_out_of(service, "extensions", &goes))
        .unwrap_or_default();
    if let Some(extensions) = root.get_mut("extensions").and_then(entries) {
        extensions.retain(|(key, _)| !goes(&key.name));
    }
    let at = root.locate(["service", "extensions"]);
    notes.extend(left_out.iter().map(|name| {
        let why = if is_supported(name) { "" } else { "it is not supported and " };
        format!("{at}: `service.extensions`: `{name}` is left out, as {why}nothing for traces refers to it (`--traces-only`)")
    }));
}

/// The type in a component's or a pipeline's id.
fn kind(id: &str) -> &str {
    id.split('/').next().unwrap_or_default().trim()
}

/// The entries of a map, if it is one; anything else is reported when it is decoded.
fn entries(node: &mut Node) -> Option<&mut Vec<(Key, Node)>> {
    match &mut node.value {
        Value::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The pipelines of a config.
fn pipelines(root: &mut Node) -> Option<&mut Vec<(Key, Node)>> {
    entries(root.get_mut("service")?.get_mut("pipelines")?)
}

fn names(section: Option<&Node>) -> BTreeSet<String> {
    match section.map(|section| &section.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
        _ => BTreeSet::new(),
    }
}

/// The names in a list.
fn listed(node: &Node, list: &str) -> Vec<String> {
    let Some(Value::List(items)) = node.get(list).map(|list| &list.value) else {
        return Vec::new();
    };
    items.iter().filter_map(|item| text(item).map(str::to_owned)).collect()
}

/// Takes names out of a list; returns them.
fn leave_out_of(node: &mut Node, list: &str, goes: &impl Fn(&str) -> bool) -> Vec<String> {
    let mut left_out = Vec::new();
    if let Some(Value::List(items)) = node.get_mut(list).map(|list| &mut list.value) {
        items.retain(|item| match text(item) {
            Some(name) if goes(name) => {
                left_out.push(name.to_owned());
                false
            }
            _ => true,
        });
    }
    left_out
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

fn texts(node: &Node, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            found.insert(scalar.text.clone());
        }
        Value::List(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Map(entries) => entries.iter().for_each(|(_, node)| texts(node, found)),
    }
}
