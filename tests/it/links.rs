//! Links between pages lead somewhere: to a file that is there, and to a heading that it has.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::root;

#[test]
fn links_of_all_pages_lead_to_files_and_headings() {
    let mut pages = Vec::new();
    for place in ["docs", "examples", "sample-apps", "collector", "harness"] {
        find(&root().join(place), &mut pages);
    }
    let top = fs::read_dir(root()).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    pages.extend(top.filter(|path| is_page(path)));
    assert!(pages.len() > 30, "only {} pages were found", pages.len());
    let mut dead = Vec::new();
    let mut links = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for (line, target) in targets(&text) {
            links += 1;
            if let Some(why) = is_dead(page, &target) {
                let page = page.strip_prefix(root()).unwrap_or(page).display();
                dead.push(format!("{page}:{line}: {target} {why}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
    assert!(links > 100, "only {links} links were found");
}

#[test]
fn a_dead_link_and_a_dead_heading_are_found() {
    let page = root().join("docs/collector.md");
    assert_eq!(is_dead(&page, "../README.md"), None);
    assert_eq!(is_dead(&page, "../README.md#performance"), None);
    assert_eq!(is_dead(&page, "nowhere.md"), Some("is not there"));
    assert_eq!(is_dead(&page, "../README.md#nowhere"), Some("is no heading there"));
    let text = "a [b](c.md \"d\") `[no](link)`\n```text\n[no](link)\n```\n![e](f.png)\n[g]: h.md\n";
    let found = targets(text);
    assert_eq!(found, [(1, "c.md".to_owned()), (5, "f.png".to_owned()), (6, "h.md".to_owned())]);
    assert_eq!(slug("`a_b` and C: d, e–f"), "a_b-and-c-d-ef");
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|is| is == "md")
}

fn find(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            true if ["node_modules", "target", "testdata"].contains(&&*name) => {}
            true => find(&path, pages),
            false if is_page(&path) => pages.push(path),
            false => {}
        }
    }
}

/// Lines outside of fenced blocks, with their numbers, without code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number, line.to_owned()));
        }
    }
    lines
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The targets of all links and pictures, with their lines.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(&line);
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            all.push((number, target.to_owned()));
        }
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            all.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    all
}

/// Returns why a link leads nowhere; `None` where it leads somewhere, or out of the repository.
fn is_dead(page: &Path, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = target.split_once('#').map_or((target, None), |(a, b)| (a, Some(b)));
    let path = match path {
        "" => page.to_owned(),
        path => page.parent().unwrap_or(page).join(path),
    };
    if !path.exists() {
        return Some("is not there");
    }
    let heading = heading.filter(|_| is_page(&path))?;
    (!headings(&fs::read_to_string(&path).unwrap()).contains(heading))
        .then_some("is no heading there")
}

fn headings(text: &str) -> BTreeSet<String> {
    let lines = prose(text);
    let titles = lines.iter().filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
    });
    let mut all = BTreeSet::new();
    for title in titles {
        let name = slug(title);
        // A title that comes again gets a number, as forges do it.
        let mut unique = name.clone();
        for number in 1.. {
            if all.insert(unique.clone()) {
                break;
            }
            unique = format!("{name}-{number}");
        }
    }
    all
}

/// The name of a heading as forges make it.
fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter if letter.is_alphanumeric() => Some(letter),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}
