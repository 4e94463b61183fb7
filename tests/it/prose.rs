//! Keeps comments, messages and pages to the words of docs/glossary.md.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;

use crate::support::root;

/// Folders with sources, whose comments and messages are checked.
const SOURCES: [&str; 6] = ["bench", "collector", "examples", "fuzz", "harness", "sample-apps"];

/// Folders and files with pages, which are checked as a whole: Markdown, scenarios, and what tests expect of the program's output.
const PAGES: [&str; 10] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "collector",
    "docs",
    "examples",
    "harness",
    "sample-apps",
    "scenarios",
];

/// Files that are not checked, each with the reason.
const EXEMPT: [(&str, &str); 3] = [
    ("docs/glossary.md", "it lists the words that are not used"),
    ("docs/performance.md", "it is a record of what was measured"),
    ("tests/it/prose.rs", "this file, which has the words for its own tests"),
];

/// Words and phrases that are not used, each with what to write instead.
const WORDS: [(&str, &str); 6] = [
    (r"(?i)\b(tells?|told|telling)\b", "report, notify, ask, give, distinguish, determine"),
    (r"(?i)\bnot built\b", "not supported"),
    (r"(?i)\bnobody (says|knows)\b", "is not specified, is unknown"),
    (r"(?i)\bnot to go on\b", "cancelled"),
    (r"(?i)\bin peace\b", "cleanly"),
    (r"(?i)\bunder way\b", "in progress, in flight"),
];

/// Words and phrases that are not used in messages, each with what to write instead; elsewhere some of them mean something else.
const WORDS_OF_MESSAGES: [(&str, &str); 4] = [
    (r##"(?i)\b(is|are) built *["#;,.:]"##, "is supported"),
    (r"(?i)\b(un)?sound\b", "valid, healthy, correct"),
    (r"(?i)\b(can|cannot|could not) be had\b", "can be bound, opened, pulled, installed"),
    (r"(?i)\bsomebody else\b", "another program, a third party"),
];

/// Words that end as a verb in the third person does, and are none at the beginning of a sentence.
const NO_VERBS: [&str; 33] = [
    "Always",
    "As",
    "Attempts",
    "Attributes",
    "Bodies",
    "Bytes",
    "Cases",
    "Containers",
    "Details",
    "Events",
    "Failures",
    "Findings",
    "Headers",
    "Ids",
    "Images",
    "Instances",
    "Its",
    "Lines",
    "Links",
    "Objects",
    "Paths",
    "Ports",
    "Replies",
    "Requests",
    "Rules",
    "Scenarios",
    "Services",
    "Spans",
    "Systems",
    "This",
    "Traces",
    "Values",
    "Workloads",
];

#[test]
fn public_items_are_documented_with_a_verb_or_a_noun() {
    let mut found = Vec::new();
    for (name, text) in files(&SOURCES, &["rs"]) {
        let complaints = complaints_of_public_items(&text).into_iter();
        found.extend(complaints.map(|one| format!("{name}:{one}")));
    }
    assert!(found.is_empty(), "see docs/glossary.md, \"Prose\":\n{}", found.join("\n"));
}

#[test]
fn sources_keep_to_the_glossary() {
    let mut found = Vec::new();
    for (name, text) in files(&[&SOURCES[..], &["tests"]].concat(), &["rs"]) {
        let complaints =
            [complaints(&text), complaints_of_values(&text), complaints_of_messages(&text)]
                .concat();
        found.extend(complaints.into_iter().map(|one| format!("{name}:{one}")));
    }
    assert!(found.is_empty(), "see docs/glossary.md, \"Prose\":\n{}", found.join("\n"));
}

#[test]
fn pages_keep_to_the_glossary() {
    let mut found = Vec::new();
    for (name, text) in files(&[&PAGES[..], &["tests"]].concat(), &["md", "yaml", "snap"]) {
        for (at, line) in text.lines().enumerate() {
            // The expression that a snapshot is of is code.
            let line = if line.starts_with("expression: ") { "" } else { line };
            let complaints = complaints_of_words(line);
            found.extend(complaints.into_iter().map(|one| format!("{name}:{}: {one}", at + 1)));
        }
    }
    assert!(found.is_empty(), "see docs/glossary.md, \"Prose\":\n{}", found.join("\n"));
}

#[test]
fn scripts_keep_to_the_glossary() {
    let extensions = ["go", "java", "js", "py", "sh"];
    let mut found = Vec::new();
    for (name, text) in files(&["examples", "findings", "harness", "tests"], &extensions) {
        for (at, line) in text.lines().enumerate() {
            let complaints = complaints_of_words(line).into_iter();
            found.extend(complaints.map(|one| format!("{name}:{}: {one}", at + 1)));
        }
    }
    assert!(found.is_empty(), "see docs/glossary.md, \"Prose\":\n{}", found.join("\n"));
}

/// Returns the files of these places that end so, each with its path below the root and its text.
fn files(places: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for place in places {
        let mut found = Vec::new();
        find(&root().join(place), extensions, &mut found);
        assert!(!found.is_empty(), "{place} has no file to check");
        all.extend(found);
    }
    let named = all.into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        (name, text)
    });
    named.filter(|(name, _)| !EXEMPT.iter().any(|(exempt, _)| exempt == name)).collect()
}

fn find(place: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    if place.is_dir() {
        // What was built or installed beside sources is not the project's.
        let name = place.file_name().unwrap().to_string_lossy();
        if name == "target" || name == "node_modules" || name.starts_with('.') {
            return;
        }
        for entry in fs::read_dir(place).unwrap() {
            find(&entry.unwrap().path(), extensions, found);
        }
    } else if place.extension().is_some_and(|is| extensions.iter().any(|one| is == *one)) {
        found.push(place.to_owned());
    }
}

/// Returns the comments of a source that do not keep to the glossary, each as `LINE: what is wrong`.
fn complaints(text: &str) -> Vec<String> {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*//[/!] (What|Why|Where|Who|Whose|Whether)\b").unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at == 0 || !is_doc(lines[at - 1]);
        if let Some(word) = OPENING.captures(line).filter(|_| is_first)
            && !(&word[1] == "Whether" && documents_a_field(&lines[at..]))
        {
            found.push(format!(
                "{}: a doc comment begins with a verb or a noun, not with `{}`",
                at + 1,
                &word[1]
            ));
        }
        let Some(comment) = line.find("//").map(|begin| &line[begin..]) else { continue };
        let complaints = complaints_of_words(comment);
        found.extend(complaints.into_iter().map(|one| format!("{}: {one}", at + 1)));
    }
    found
}

/// Returns the doc comments of public items that do not open as they should, each as `LINE: what is wrong`: a function's with a verb
/// in the third person, any other's not with a word that needs the item before.
fn complaints_of_public_items(text: &str) -> Vec<String> {
    static FUNCTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*pub (const |async |unsafe )*fn (\w+)").unwrap());
    static METHOD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^    (async )?fn (\w+)").unwrap());
    // A noun is recognized by what follows, too: `Names of …`.
    static VERB: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*/// ([A-Z][a-z-]*s)(?:$|,| (\w*))").unwrap());
    static NO_NOUN: LazyLock<Regex> = LazyLock::new(|| {
        let words = "How|Which|When|That|Of|As|It|Its|They|Those|One of them|The same|With|Without|Nobody|Somebody";
        Regex::new(&format!(r"^\s*/// ({words})\b")).unwrap()
    });
    // A field may be described in a few words by what its type is about: `Its name.`
    static SHORT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^/// Its( \S+){1,7}\.$").unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    // All that a public enum or trait has is public, and not marked so.
    let (mut in_enum, mut in_trait) = (false, false);
    for (at, line) in lines.iter().enumerate() {
        in_enum = line.starts_with("pub enum ") || (in_enum && !line.starts_with('}'));
        in_trait = line.starts_with("pub trait ") || (in_trait && !line.starts_with('}'));
        let is_first = line.trim_start().starts_with("///") && (at == 0 || !is_doc(lines[at - 1]));
        let Some(item) = item(&lines[at..]).filter(|_| is_first) else { continue };
        let (place, line) = (at + 1, line.trim_start());
        let method = METHOD.captures(item).filter(|_| in_trait);
        if let Some(function) = FUNCTION.captures(item).or(method) {
            let is_verb = VERB.captures(line).is_some_and(|opening| {
                let next = opening.get(2).map_or("", |next| next.as_str());
                !NO_VERBS.contains(&&opening[1]) && !["of", "which", "whose"].contains(&next)
            });
            if !is_verb {
                found.push(format!(
                    "{place}: the doc comment of the function `{}` begins with a verb in the third person (`Returns …`), not so: {line}",
                    &function[2]
                ));
            }
        } else if (in_enum || item.trim_start().starts_with("pub "))
            && NO_NOUN.is_match(line)
            && !(VALUE.is_match(item) && SHORT.is_match(line))
        {
            found.push(format!(
                "{place}: the doc comment of `{}` begins with a noun, not so: {line}",
                item.trim()
            ));
        }
    }
    found
}

/// A field, a constant or a static variable.
static VALUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(pub(\([a-z_: ]+\))? )?((const|static) )?\w+: ").unwrap());

/// Returns the doc comments of fields and constants that begin with a verb, as a function's, each as `LINE: what is wrong`. A command
/// line's options are left out: their comments are the help of what the program does.
fn complaints_of_values(text: &str) -> Vec<String> {
    static VERB: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*/// (Builds|Creates|Gives|Makes|Reads|Returns|Sends|Takes|Writes)\b")
            .unwrap()
    });
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at == 0 || !is_doc(lines[at - 1]);
        if !is_first || !VERB.is_match(line) {
            continue;
        }
        let Some(item) = item(&lines[at..]).filter(|item| VALUE.is_match(item)) else { continue };
        let behind = lines[at..].iter().skip_while(|line| is_doc(line));
        let is_option = behind.clone().next().is_some_and(|line| line.trim().starts_with("#[arg"));
        if !is_option {
            found.push(format!(
                "{}: the doc comment of `{}` begins with a noun, not so: {}",
                at + 1,
                item.trim(),
                line.trim()
            ));
        }
    }
    found
}

/// Returns the string literals of a source that do not keep to the glossary.
fn complaints_of_messages(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    collect_messages(text.parse().unwrap(), &mut messages);
    let mut found = Vec::new();
    for message in messages {
        let text = without_arguments(&message);
        let complaints = [complaints_of_words(&text), complaints_of(&text, &OF_MESSAGES)].concat();
        found.extend(complaints.into_iter().map(|one| format!(" {message}: {one}")));
    }
    found
}

fn collect_messages(tokens: TokenStream, messages: &mut Vec<String>) {
    let mut after_hash = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => {
                let mut inner = group.stream().into_iter();
                let is_doc = after_hash
                    && matches!(inner.next(), Some(TokenTree::Ident(name)) if name == "doc");
                if !is_doc {
                    collect_messages(group.stream(), messages);
                }
            }
            TokenTree::Literal(literal) => {
                let literal = literal.to_string();
                if literal.contains('"') {
                    messages.push(literal);
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
        // `#[doc = "…"]`, or `#![doc = "…"]`: a comment.
        after_hash = match &token {
            TokenTree::Punct(punct) => {
                punct.as_char() == '#' || (after_hash && punct.as_char() == '!')
            }
            _ => false,
        };
    }
}

/// Removes the names that a format string has in braces.
fn without_arguments(message: &str) -> String {
    static ARGUMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\w+(:[^{}]*)?\}").unwrap());
    ARGUMENT.replace_all(message, "{}").into_owned()
}

/// Returns the words of a text that are not used, each with what to write instead.
fn complaints_of_words(text: &str) -> Vec<String> {
    static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| compiled(&WORDS));
    complaints_of(text, &COMPILED)
}

static OF_MESSAGES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| compiled(&WORDS_OF_MESSAGES));

fn compiled(words: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    words.iter().map(|(word, instead)| (Regex::new(word).unwrap(), *instead)).collect()
}

fn complaints_of(text: &str, words: &[(Regex, &str)]) -> Vec<String> {
    let found = words.iter().filter_map(|(word, instead)| Some((word.find(text)?, instead)));
    found.map(|(word, instead)| format!("`{}`; write instead: {instead}", word.as_str())).collect()
}

fn is_doc(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("///") || line.starts_with("//!")
}

/// Returns whether the doc comment at the beginning of these lines is that of a field: a yes-or-no one may begin with *Whether*.
fn documents_a_field(lines: &[&str]) -> bool {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*(pub(\([a-z: ]+\))? )?\w+: .*(bool|Expected)\b").unwrap()
    });
    item(lines).is_some_and(|item| FIELD.is_match(item))
}

/// Returns the line at which the item begins that these lines document, behind the comment and the attributes.
fn item<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let mut in_attribute = false;
    for line in lines {
        let trimmed = line.trim();
        if in_attribute || trimmed.starts_with("#[") {
            in_attribute = !trimmed.ends_with(']');
        } else if !trimmed.starts_with("//") {
            return Some(line);
        }
    }
    None
}

#[test]
fn what_does_not_keep_to_the_glossary_is_found() {
    let text = "/// What it is.\n/// Where nothing continues is no opening.\nfn a() {}\n\
                /// Whether it holds.\nfn holds() -> bool {}\n\
                struct B {\n    /// Whether it holds.\n    #[serde(default)]\n    pub holds: bool,\n}\n\
                let told = 1; // It is told.\n";
    let found = complaints(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("1: ") && found[0].ends_with("`What`"), "{found:?}");
    assert!(found[1].starts_with("4: ") && found[1].ends_with("`Whether`"), "{found:?}");
    assert_eq!(
        found[2],
        "11: `told`; write instead: report, notify, ask, give, distinguish, determine"
    );
}

#[test]
fn public_items_that_are_not_documented_with_a_verb_or_a_noun_are_found() {
    let text = "impl A {\n    /// Returns its name.\n    pub fn a() {}\n\n    /// Its name.\n    pub fn b() {}\n\n    \
                /// Spans of it.\n    #[expect(\n        clippy::all,\n        reason = \"a test\"\n    )]\n    \
                pub const fn c() {}\n\n    /// Names of all.\n    pub async fn d() {}\n\n    \
                /// Datadog's name.\n    pub fn e() {}\n\n    /// Names\n    /// all.\n    pub fn f() {}\n\n    \
                /// Reads, and writes.\n    pub fn g() {}\n\n    /// The field.\n    pub h: u8,\n\n    \
                /// How many.\n    pub i: u8,\n\n    /// How.\n    fn j() {}\n}\n\n\
                pub trait B {\n    /// Its name.\n    fn k();\n}\n\npub enum C {\n    /// Which one.\n    L,\n}\n";
    let found = complaints_of_public_items(text);
    let named: Vec<&str> = found.iter().filter_map(|one| one.split('`').nth(1)).collect();
    assert_eq!(named, ["b", "c", "d", "e", "pub i: u8,", "k", "L,"], "{found:?}");
    assert!(found[0].starts_with("5: ") && found[0].ends_with(": /// Its name."), "{found:?}");
}

#[test]
fn openings_that_need_the_item_before_are_found() {
    let text = "pub enum A {\n    /// It was cancelled.\n    B,\n    /// Its file.\n    C {\n        /// Its name.\n        name: u8,\n    },\n    \
                /// Somebody else listens there.\n    D,\n}\n\npub struct E {\n    /// Those of its resource.\n    pub f: u8,\n    \
                /// The same with more.\n    pub g: u8,\n    /// Its value once it is known, and that of all before it.\n    pub h: u8,\n    \
                /// The same.\n    i: u8,\n}\n";
    let found = complaints_of_public_items(text);
    let named: Vec<&str> = found.iter().filter_map(|one| one.split('`').nth(1)).collect();
    assert_eq!(named, ["B,", "C {", "D,", "pub f: u8,", "pub g: u8,", "pub h: u8,"], "{found:?}");
}

#[test]
fn fields_and_constants_that_are_documented_as_functions_are_found() {
    let text = "/// Returns whether it is.\npub(super) const A: u8 = 1;\n\n\
                struct B {\n    /// Returns the capabilities.\n    #[serde(default)]\n    pub c: u8,\n    \
                /// Writes a report.\n    #[arg(long)]\n    d: u8,\n    /// Whether it returns.\n    e: bool,\n}\n\n\
                /// Returns it.\nfn f() {}\n\n/// Sends it.\ntrait G {}\n";
    let found = complaints_of_values(text);
    let named: Vec<&str> = found.iter().filter_map(|one| one.split('`').nth(1)).collect();
    assert_eq!(named, ["pub(super) const A: u8 = 1;", "pub c: u8,"], "{found:?}");
}

#[test]
fn messages_that_do_not_keep_to_the_glossary_are_found() {
    let text = "#![doc = \"told\"]\n/// told\nfn told(tell: u8) {\n    let told = b'x';\n    panic!(\"{told:?} is {tell}\");\n    \
                panic!(r#\"it is \"told\"\"#);\n}\n";
    let found = complaints_of_messages(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(" r#\"it is \"told\"\"#: `told`; "), "{found:?}");

    let text = "/// A sound one.\nfn sound() {\n    bail!(\"only `prometheus` is built\");\n    bail!(\"the options give no sound system\");\n    \
                bail!(\"its image cannot be had ({reason})\");\n    bail!(\"it is somebody else's\");\n    \
                bail!(\"the header is built by hand; {sound}\");\n}\n";
    assert_eq!(complaints_of_messages(text).len(), 4, "{:?}", complaints_of_messages(text));
}
