//! The nodes of a YAML text with their places, which its types do not get.

use std::ops::Range;

use granit_parser::{Event, Parser, StructureStyle};

/// Deepest nesting that is looked at.
const MAX_DEPTH: usize = 100;
/// Stands in a path for an item of a list.
pub(super) const ITEM: &str = "[]";

/// The nodes of a text. Positions are counted in characters from 0.
#[derive(Debug)]
pub(super) struct Outline {
    root: Node,
}

#[derive(Debug)]
struct Node {
    range: Range<usize>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(String),
    List { items: Vec<Node>, is_flow: bool },
    Mapping { pairs: Vec<(Node, Node)>, is_flow: bool },
}

/// Form of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A single value.
    Scalar,
    /// A list.
    List,
    /// A mapping of keys.
    Mapping,
}

impl Outline {
    /// Reads a text; `None` where it is no YAML, holds nothing, or is nested too deep.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut open: Vec<(Node, Option<Node>)> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.ok()?;
            let range = span.start.index()..span.end.index();
            let content = match event {
                Event::Scalar(text, ..) => Content::Scalar(text.into_owned()),
                Event::Alias(_) => Content::Scalar(String::new()),
                Event::SequenceStart(style, ..) => {
                    let is_flow = style == StructureStyle::Flow;
                    open.push((Node::new(range, Content::list(is_flow)), None));
                    continue;
                }
                Event::MappingStart(style, ..) => {
                    let is_flow = style == StructureStyle::Flow;
                    open.push((Node::new(range, Content::mapping(is_flow)), None));
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let (mut node, _) = open.pop()?;
                    node.close(range.end);
                    if let Some(root) = put(&mut open, node) {
                        return Some(Self { root });
                    }
                    continue;
                }
                _ => continue,
            };
            if open.len() > MAX_DEPTH {
                return None;
            }
            if let Some(root) = put(&mut open, Node::new(range, content)) {
                return Some(Self { root });
            }
        }
        None
    }

    /// Lists the keys of the outermost mapping.
    pub(super) fn keys(&self) -> Vec<&str> {
        let Content::Mapping { pairs, .. } = &self.root.content else { return Vec::new() };
        pairs.iter().map(|(key, _)| key.text()).collect()
    }

    /// Returns whether a key begins at a position. A block that begins with it does as well.
    pub(super) fn is_key(&self, at: usize) -> bool {
        let (begun, _) = self.beside(at).into_iter().rfind(|(start, _)| *start <= at).unzip();
        begun == Some(at)
    }

    /// Returns the path of the entry at a position, [`ITEM`] for items of lists; with `whole`, of what holds the entry.
    pub(super) fn path(&self, at: usize, whole: bool) -> Vec<&str> {
        let mut path = Vec::new();
        let mut node = &self.root;
        for index in self.way(at, whole) {
            node = match &node.content {
                Content::Mapping { pairs, .. } => {
                    path.push(pairs[index].0.text());
                    &pairs[index].1
                }
                Content::List { items, .. } => {
                    path.push(ITEM);
                    &items[index]
                }
                Content::Scalar(_) => break,
            };
        }
        path
    }

    /// Returns the form of the value at a position, and where it is written; with `whole`, of what holds it.
    pub(super) fn value(&self, at: usize, whole: bool) -> (Form, Range<usize>) {
        let node = self.node(&self.way(at, whole));
        let form = match node.content {
            Content::Scalar(_) => Form::Scalar,
            Content::List { .. } => Form::List,
            Content::Mapping { .. } => Form::Mapping,
        };
        (form, node.range.clone())
    }

    /// Returns the keys beside that at a position, itself included, each with its position.
    pub(super) fn beside(&self, at: usize) -> Vec<(usize, &str)> {
        let way = self.way(at, true);
        let Content::Mapping { pairs, .. } = &self.node(&way).content else { return Vec::new() };
        pairs.iter().map(|(key, _)| (key.range.start, key.text())).collect()
    }

    /// Returns the range of the entry at a position that leaves a sound text when it is blanked; with `whole`, of what holds the
    /// entry. An entry that is alone goes with what holds it; `None` where that is everything.
    pub(super) fn entry(&self, at: usize, whole: bool, text: &[char]) -> Option<Range<usize>> {
        let mut way = self.way(at, whole);
        loop {
            let index = way.pop()?;
            let holder = self.node(&way);
            let (ranges, is_flow, is_list) = match &holder.content {
                Content::Mapping { pairs, is_flow } => {
                    let ranges = pairs.iter().map(|(key, value)| entry_range(key, value));
                    (ranges.collect::<Vec<_>>(), *is_flow, false)
                }
                Content::List { items, is_flow } => {
                    (items.iter().map(|item| item.range.clone()).collect(), *is_flow, true)
                }
                Content::Scalar(_) => return None,
            };
            let range = ranges.get(index)?.clone();
            match (ranges.len(), is_flow, is_list) {
                (1, ..) => {}
                (_, true, _) => {
                    return Some(match ranges.get(index + 1) {
                        Some(next) => range.start..next.start,
                        None => ranges[index - 1].end..range.end,
                    });
                }
                (_, false, false) => return Some(range),
                (_, false, true) => {
                    let before = text.get(..range.start)?;
                    let dash = before.iter().rposition(|letter| !letter.is_whitespace())?;
                    return (text[dash] == '-').then_some(dash..range.end);
                }
            }
        }
    }

    /// The indexes that lead from the root to the deepest entry at a position, or to what holds it.
    fn way(&self, at: usize, whole: bool) -> Vec<usize> {
        let mut way = self.way_to_entry(at);
        if whole {
            way.pop();
        }
        way
    }

    fn way_to_entry(&self, at: usize) -> Vec<usize> {
        let mut way = Vec::new();
        let mut node = &self.root;
        loop {
            let found = match &node.content {
                Content::Scalar(_) => None,
                Content::List { items, .. } => {
                    let index = items.iter().rposition(|item| item.range.start <= at);
                    index.map(|index| (index, Some(&items[index])))
                }
                Content::Mapping { pairs, .. } => {
                    let index = pairs.iter().rposition(|(key, _)| key.range.start <= at);
                    // A key is none of what its value holds.
                    index.map(|index| {
                        let (key, value) = &pairs[index];
                        (index, (at >= key.range.end).then_some(value))
                    })
                }
            };
            let is_before = at < node.range.start;
            match found {
                Some((index, next)) if !is_before => {
                    way.push(index);
                    match next {
                        Some(next) if next.range.start <= at => node = next,
                        _ => return way,
                    }
                }
                _ => return way,
            }
            // The bracket itself is its value's.
            if node.range.start == at && node.is_flow() {
                return way;
            }
        }
    }

    fn node(&self, way: &[usize]) -> &Node {
        way.iter().fold(&self.root, |node, index| match &node.content {
            Content::Mapping { pairs, .. } => &pairs[*index].1,
            Content::List { items, .. } => &items[*index],
            Content::Scalar(_) => node,
        })
    }
}

/// Puts a node where it belongs: into the innermost open one; gives it back where it is the root.
fn put(open: &mut [(Node, Option<Node>)], node: Node) -> Option<Node> {
    let Some((holder, key)) = open.last_mut() else { return Some(node) };
    match (&mut holder.content, key.take()) {
        (Content::List { items, .. }, _) => items.push(node),
        (Content::Mapping { .. }, None) => *key = Some(node),
        (Content::Mapping { pairs, .. }, Some(before)) => pairs.push((before, node)),
        (Content::Scalar(_), _) => {}
    }
    None
}

/// From the key to the end of the value; one that is left out stands nowhere.
fn entry_range(key: &Node, value: &Node) -> Range<usize> {
    key.range.start..key.range.end.max(value.range.end)
}

impl Node {
    fn new(range: Range<usize>, content: Content) -> Self {
        Self { range, content }
    }

    fn text(&self) -> &str {
        match &self.content {
            Content::Scalar(text) => text,
            _ => "",
        }
    }

    fn is_flow(&self) -> bool {
        matches!(
            self.content,
            Content::List { is_flow: true, .. } | Content::Mapping { is_flow: true, .. }
        )
    }

    /// Sets the end: that of the bracket, or of the last thing in a block, behind which its end is not marked.
    fn close(&mut self, end: usize) {
        let (first, last) = match &self.content {
            Content::List { items, is_flow: false } => (
                items.first().map(|item| item.range.start),
                items.last().map(|item| item.range.end),
            ),
            Content::Mapping { pairs, is_flow: false } => (
                pairs.first().map(|(key, _)| key.range.start),
                pairs.last().map(|(key, value)| entry_range(key, value).end),
            ),
            _ => (None, Some(end)),
        };
        self.range = first.unwrap_or(self.range.start)..last.unwrap_or(end);
    }
}

impl Content {
    fn list(is_flow: bool) -> Self {
        Self::List { items: Vec::new(), is_flow }
    }

    fn mapping(is_flow: bool) -> Self {
        Self::Mapping { pairs: Vec::new(), is_flow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a: 1\nb:\n  - { c: x, d: [y] }\n  - e: |\n      z\n    f: é\n  - g\nh: { i: , j: 2 }\n";

    /// Returns what is left when the entry that `part` begins is blanked.
    fn without(text: &str, part: &str) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let at = text[..text.find(part).unwrap()].chars().count();
        let range = Outline::of(text)?.entry(at, false, &letters)?;
        Some(super::super::typed::blanked(&letters, &range).into_iter().collect())
    }

    #[test]
    fn an_entry_is_found_by_its_place() {
        let outline = Outline::of(TEXT).unwrap();
        let path =
            |part: &str| outline.path(TEXT[..TEXT.find(part).unwrap()].chars().count(), false);
        assert_eq!(path("a: 1"), ["a"]);
        assert_eq!(path("1"), ["a"]);
        assert_eq!(path("x, d"), ["b", ITEM, "c"]);
        assert_eq!(path("{ c"), ["b", ITEM]);
        assert_eq!(path("[y]"), ["b", ITEM, "d"]);
        assert_eq!(path("y]"), ["b", ITEM, "d", ITEM]);
        assert_eq!(path("é"), ["b", ITEM, "f"]);
        assert_eq!(path("2 }"), ["h", "j"]);
        assert_eq!(outline.keys(), ["a", "b", "h"]);
    }

    #[test]
    fn what_is_left_without_an_entry_is_sound_and_its_places_stay() {
        for part in ["a: 1", "x, d", "[y]", "y]", "{ c", "e: |", "é", "g\n", "i: ", "2 }", "h: {"]
        {
            let left = without(TEXT, part).unwrap();
            assert_eq!(left.chars().count(), TEXT.chars().count(), "{part}");
            assert_eq!(left.lines().count(), TEXT.lines().count(), "{part}");
            let read: Result<serde_json::Value, _> = serde_saphyr::from_str(&left);
            assert!(read.is_ok(), "{part}: {left}: {read:?}");
        }
        assert_eq!(without("a: { b: [c] }\nd: 1\n", "c]").unwrap().trim(), "d: 1");
        assert_eq!(without("a: [b]\n", "b]"), None);
    }

    #[test]
    fn what_is_no_yaml_or_too_deep_has_no_outline() {
        assert!(Outline::of("a: [b\n").is_none());
        assert!(Outline::of(&"[".repeat(10_000)).is_none());
        assert!(Outline::of("").is_none());
    }
}
