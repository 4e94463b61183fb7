//! Keeps the modules of each crate acyclic: two modules that use each other can only be understood, and changed, together.
//!
//! A module is a file. It uses another one where a path outside of tests leads into it: `crate::…`, `super::…`, or the name
//! of a module below it. What a part uses of the module that holds it does not count: the parts of a folder share a room,
//! and may use what stands in it. A re-export counts as a use of the module that it names.
//!
//! A module with all that is below it is a room, and the rooms beside each other are acyclic as well.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path as FilePath,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::support::root;

/// A module's path below its crate, or the segments of a path in its source.
type Path = Vec<String>;

/// Which modules each module uses, by their paths.
type Uses = BTreeMap<Path, BTreeSet<Path>>;

#[test]
fn the_modules_of_each_crate_are_acyclic() {
    let (mut found, mut links) = (Vec::new(), 0);
    for member in members() {
        let source = format!("{member}/src");
        let uses = read(&root().join(&source));
        assert!(!uses.is_empty(), "{source} has no modules");
        links += uses.values().map(BTreeSet::len).sum::<usize>();
        found.extend(circles(&uses).into_iter().map(|circle| format!("{source}: {circle}")));
    }
    assert!(links > 500, "only {links} uses of one module by another were found");
    assert!(
        found.is_empty(),
        "some modules use each other; move what they share to a module below both:\n{}",
        found.join("\n")
    );
}

#[test]
fn the_rooms_of_each_crate_are_acyclic() {
    let (mut found, mut links) = (Vec::new(), 0);
    for member in members() {
        let source = format!("{member}/src");
        let rooms = rooms(&read(&root().join(&source)));
        links += rooms.values().map(BTreeSet::len).sum::<usize>();
        found.extend(circles(&rooms).into_iter().map(|circle| format!("{source}: {circle}")));
    }
    assert!(links > 300, "only {links} uses of one room by another were found");
    assert!(
        found.is_empty(),
        "some folders use each other; move what they share to a folder below both:\n{}",
        found.join("\n")
    );
}

/// Returns which rooms use each other: of two modules, the parts of the module that holds both in which they stand.
fn rooms(uses: &Uses) -> Uses {
    let mut rooms = Uses::new();
    for (from, to) in uses.iter().flat_map(|(from, into)| into.iter().map(move |to| (from, to))) {
        let shared = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        // One of them may hold the other.
        if let (Some(from), Some(to)) = (from.get(..=shared), to.get(..=shared)) {
            rooms.entry(to.to_vec()).or_default();
            rooms.entry(from.to_vec()).or_default().insert(to.to_vec());
        }
    }
    rooms
}

/// Returns the folders of the workspace's crates.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, list) = manifest.split_once("\nmembers = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let members: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(members.iter().any(|member| member == "collector"), "{members:?}");
    members
}

/// Reads the sources of a crate, without its tests and without `main.rs`, which is a crate of its own.
fn read(source: &FilePath) -> Uses {
    let mut files = BTreeMap::new();
    find(source, &mut Vec::new(), &mut files);
    files.remove(&vec!["main".to_owned()]);
    if let Some(tokens) = files.remove(&vec!["lib".to_owned()]) {
        files.insert(Vec::new(), tokens);
    }
    let tests: Vec<Path> = files
        .iter()
        .flat_map(|(module, tokens)| {
            let mut names = Vec::new();
            scan(tokens.clone(), &mut |_| {}, &mut |name| names.push(child(module, name)));
            names
        })
        .collect();
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    let paths = files.into_iter().map(|(module, tokens)| {
        let mut paths = Vec::new();
        scan(tokens, &mut |path| paths.push(path.to_vec()), &mut |_| {});
        (module, paths)
    });
    let paths: BTreeMap<Path, Vec<Path>> = paths.collect();
    let crate_of = Crate::of(&paths);
    let used = |module: &Path, paths: &[Path]| {
        paths.iter().filter_map(|path| crate_of.resolve(module, path)).collect()
    };
    paths.iter().map(|(module, paths)| (module.clone(), used(module, paths))).collect()
}

fn find(folder: &FilePath, module: &mut Path, files: &mut BTreeMap<Path, TokenStream>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(name);
            find(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let module = if name == "mod" { module.clone() } else { child(module, &name) };
            files.insert(module, tokens);
        }
    }
}

fn child(module: &[String], name: &str) -> Path {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Reports each path of a source to `see`, and each module file that is for tests only to `see_test`.
///
/// What stands below `#[cfg(test)]` is passed over.
fn scan(tokens: TokenStream, see: &mut dyn FnMut(&[String]), see_test: &mut dyn FnMut(&str)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_punct(tokens.get(at), '#')
            && let Some(TokenTree::Group(attribute)) = tokens.get(at + 1)
            && is_for_tests(attribute.stream())
        {
            at = pass_item(&tokens, at + 2, see_test);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(_) => at = path(&tokens, at, &mut Vec::new(), see),
            TokenTree::Group(group) => {
                scan(group.stream(), see, see_test);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Returns whether the inside of an attribute's brackets is `cfg(test)` or `cfg(all(test, …))`.
fn is_for_tests(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(condition))) =
        (tokens.next(), tokens.next())
    else {
        return false;
    };
    let condition: Vec<TokenTree> = condition.stream().into_iter().collect();
    let is_word = |token: &TokenTree, word| matches!(token, TokenTree::Ident(name) if name == word);
    let holds = match condition.as_slice() {
        [one] => is_word(one, "test"),
        [all, TokenTree::Group(of)] => {
            is_word(all, "all") && of.stream().into_iter().any(|token| is_word(&token, "test"))
        }
        _ => false,
    };
    name == "cfg" && holds
}

/// Gives the place behind an item: behind its braces, or its semicolon.
fn pass_item(tokens: &[TokenTree], mut at: usize, see_test: &mut dyn FnMut(&str)) -> usize {
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                // `use a::{b, c};` goes on behind its braces.
                return at + usize::from(is_punct(tokens.get(at), ';'));
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ';' | ',') => return at,
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), true) =
                    (tokens.get(at), is_punct(tokens.get(at + 1), ';'))
                {
                    see_test(&name.to_string());
                }
            }
            _ => {}
        }
    }
    at
}

/// Reports the paths that begin here, several where braces part them; gives the place behind them.
fn path(
    tokens: &[TokenTree],
    mut at: usize,
    segments: &mut Path,
    see: &mut dyn FnMut(&[String]),
) -> usize {
    let depth = segments.len();
    while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
        segments.push(segment.to_string());
        at += 1;
        if !(is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')) {
            break;
        }
        at += 2;
        if let Some(TokenTree::Group(group)) = tokens.get(at)
            && group.delimiter() == Delimiter::Brace
        {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let mut within = 0;
            while within < inner.len() {
                within = match &inner[within] {
                    TokenTree::Ident(_) => path(&inner, within, segments, see),
                    _ => within + 1,
                };
            }
            at += 1;
            segments.truncate(depth);
            return at;
        }
    }
    if segments.len() > 1 {
        see(segments);
    }
    segments.truncate(depth);
    at
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The modules of a crate, and the names that each has from others.
struct Crate {
    modules: BTreeSet<Path>,
    /// By module and name, the module that the name is of, or that it is.
    names: BTreeMap<(Path, String), Path>,
}

impl Crate {
    fn of(paths: &BTreeMap<Path, Vec<Path>>) -> Self {
        let modules = paths.keys().cloned().collect();
        let mut names = BTreeMap::new();
        let bare = Self { modules, names: BTreeMap::new() };
        for (module, paths) in paths {
            for path in paths {
                let Some((target, behind)) = bare.follow(module, path) else { continue };
                let (Some(name), true) = (path.last(), behind.len() < 2) else { continue };
                if target != *module && name != "self" {
                    names.insert((module.clone(), name.clone()), target);
                }
            }
        }
        Self { names, ..bare }
    }

    /// The module that a path in `module` leads into, unless it stays there or leads to a module around it. What such a module has from
    /// another one is of that one.
    fn resolve(&self, module: &Path, path: &[String]) -> Option<Path> {
        let (mut target, behind) = self.follow(module, path)?;
        if module.starts_with(&target) {
            target = self.names.get(&(target, behind.first()?.clone()))?.clone();
        }
        (!module.starts_with(&target)).then_some(target)
    }

    /// Follows a path in `module` from module to module; the last one, and what is behind it.
    fn follow<'p>(&self, module: &Path, path: &'p [String]) -> Option<(Path, &'p [String])> {
        let (first, mut rest) = path.split_first()?;
        let mut target: Path = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            name if self.modules.contains(&child(module, name)) => child(module, name),
            name => {
                let imported = self.names.get(&(module.clone(), name.to_owned()))?;
                // A module, not something of one.
                imported.last().filter(|last| *last == name)?;
                imported.clone()
            }
        };
        while let Some((next, behind)) = rest.split_first() {
            match next.as_str() {
                "super" => {
                    target.pop();
                }
                "self" => {}
                name if self.modules.contains(&child(&target, name)) => {
                    target.push(name.to_owned());
                }
                _ => break,
            }
            rest = behind;
        }
        Some((target, rest))
    }
}

/// Describes each set of modules that can be reached from each other, one line each.
fn circles(uses: &Uses) -> Vec<String> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        uses.keys().map(|module| (module, reachable(uses, module))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (module, reaches) in &reached {
        if !reaches.contains(module) || seen.contains(module) {
            continue;
        }
        let circle: Vec<&Path> =
            reaches.iter().copied().filter(|other| reached[other].contains(module)).collect();
        seen.extend(circle.iter().copied());
        let links = circle.iter().flat_map(|from| {
            let into = uses[*from].iter().filter(|to| circle.contains(to));
            into.map(|to| format!("{} uses {}", from.join("/"), to.join("/")))
        });
        circles.push(links.collect::<Vec<_>>().join(", "));
    }
    circles
}

fn reachable<'a>(uses: &'a Uses, from: &Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Path> = uses[from].iter().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(uses.get(module).into_iter().flatten());
        }
    }
    reached
}

/// Lays out a made-up crate and gives its circles.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    circles(&read(folder.path()))
}

fn write(folder: &FilePath, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn rooms_that_use_each_other_by_different_files_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod house;"),
        ("house.rs", "mod hall; mod attic;"),
        ("house/hall.rs", "mod door; mod lamp; struct Floor;"),
        ("house/hall/door.rs", "use super::super::attic::beam::Beam;"),
        ("house/hall/lamp.rs", "use super::Floor; use super::door::Door; pub struct Light;"),
        ("house/attic.rs", "mod beam; mod window;"),
        ("house/attic/beam.rs", "pub struct Beam;"),
        ("house/attic/window.rs", "use crate::house::hall::lamp::Light;"),
    ];
    write(folder.path(), &files);
    let uses = read(folder.path());
    assert!(circles(&uses).is_empty());
    let circle = "house/attic uses house/hall, house/hall uses house/attic";
    assert_eq!(circles(&rooms(&uses)), [circle]);
}

#[test]
fn a_circle_is_found_and_named() {
    let files = [
        ("lib.rs", "mod roof; mod wall; mod ground;"),
        ("roof.rs", "use crate::wall::{self, Brick as _};"),
        ("wall.rs", "mod stone; fn build() { matches!(1, super::ground::SAND); }"),
        ("wall/stone.rs", "use super::Brick;"),
        ("ground.rs", "use crate::{other::Thing, roof::{Tile, self}};"),
    ];
    assert_eq!(circles_of(&files), ["ground uses roof, roof uses wall, wall uses ground"],);
}

#[test]
fn a_circle_through_the_part_of_a_module_is_found() {
    let files = [
        ("lib.rs", "mod one; mod other;"),
        ("one.rs", "mod part; pub(crate) use part::Part;"),
        ("one/part.rs", "use crate::other::Thing; pub(crate) struct Part(super::Whole);"),
        ("other.rs", "use crate::one::Part; struct Thing;"),
    ];
    assert_eq!(circles_of(&files), ["one uses one/part, one/part uses other, other uses one"],);
}

#[test]
fn a_circle_through_a_name_of_the_whole_or_an_imported_module_is_found() {
    let through_the_whole = [
        ("lib.rs", "mod whole;"),
        ("whole.rs", "pub use self::{first::Door, second::Hall}; mod first; mod second;"),
        ("whole/first.rs", "use super::second::Hall; pub struct Door;"),
        ("whole/second.rs", "use super::Door; pub struct Hall;"),
    ];
    assert_eq!(
        circles_of(&through_the_whole),
        ["whole/first uses whole/second, whole/second uses whole/first"]
    );
    let imported = [
        ("lib.rs", "mod one; mod other;"),
        ("one.rs", "pub mod part;"),
        ("one/part.rs", "use crate::other::Thing; pub fn make() {}"),
        ("other.rs", "use crate::one; pub fn thing() { one::part::make() }"),
    ];
    assert_eq!(circles_of(&imported), ["one/part uses other, other uses one/part"]);
}

#[test]
fn tests_comments_and_what_a_part_uses_of_its_whole_make_no_circle() {
    let files = [
        ("lib.rs", "mod roof; mod ground;"),
        ("roof.rs", "use crate::ground::Sand; #[cfg(test)] mod tests;"),
        ("roof/tests.rs", "use super::Roof; use crate::ground::Sand;"),
        (
            "ground.rs",
            "// crate::roof::Tile\nconst TEXT: &str = \"crate::roof::Tile\"; mod sand; use sand::Sand;\n\
             #[cfg(test)] use crate::roof::Tile;\n\
             #[cfg(test)] mod tests { use crate::roof::Tile; }\n\
             #[cfg(all(test, unix))] fn tile() { crate::roof::lay() }",
        ),
        ("ground/sand.rs", "use super::Ground; pub(crate) struct Sand;"),
        ("main.rs", "use made_up::roof;"),
    ];
    assert!(circles_of(&files).is_empty());
}
