//! Logs of systems with a scenario that did not pass, for runs that are not saved: containers and pods take theirs along.
//!
//! One folder a run, made when the first system needs it, and in it one a system. Bounded: of each file the end is kept, and of
//! folders the newest ones. Keys are redacted where a line is logged.

use std::{
    fs, io,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// How the name of a run's folder begins.
const PREFIX: &str = "tracecheck-logs-";
/// How many runs' folders there are at most.
const MAX_RUNS: usize = 20;
/// How much of a file is kept: its end.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How many lines of a log are reported.
const SHOWN_LINES: usize = 2;
/// How much of a line is reported.
const SHOWN_CHARS: usize = 160;

/// Folder in which a run keeps the logs of systems that did not pass.
#[derive(Debug)]
pub struct KeptLogs {
    parent: PathBuf,
    run_id: String,
    made: Mutex<Option<PathBuf>>,
}

impl KeptLogs {
    /// Creates the description of a folder of the run's own below `parent`, without creating the folder.
    pub fn new(parent: PathBuf, run_id: &str) -> Self {
        Self { parent, run_id: run_id.to_owned(), made: Mutex::default() }
    }

    /// The folder of the system with that number, which is there then.
    pub(super) fn of_system(&self, number: usize) -> io::Result<PathBuf> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let run = match made.as_ref() {
            Some(run) => run.clone(),
            None => {
                remove_oldest(&self.parent);
                // Nobody else can have made it, or look into it.
                let prefix = format!("{PREFIX}{}-", self.run_id);
                let run = tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.parent)?.keep();
                made.insert(run).clone()
            }
        };
        let dir = run.join(format!("system-{number}"));
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Makes room for one more.
fn remove_oldest(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let mut found: Vec<(SystemTime, PathBuf)> = ours
        .filter_map(|entry| {
            // Of the entry itself: a link is somebody else's doing.
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
            Some((metadata.modified().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    let too_many = (found.len() + 1).saturating_sub(MAX_RUNS);
    for (_, dir) in found.iter().take(too_many) {
        // Somebody else's, or being removed by another run.
        let _not_ours = fs::remove_dir_all(dir);
    }
}

/// The folder of a system's logs and the last lines of them, or why there are none.
pub(super) type Kept = Result<(PathBuf, String), String>;

/// Ends the keeping of what was collected in a folder; `None` where it is nothing.
pub(super) fn finish(dir: io::Result<Option<PathBuf>>) -> Option<Kept> {
    let dir = match dir {
        Ok(dir) => dir?,
        Err(error) => return Some(Err(error.to_string())),
    };
    match shorten(&dir) {
        Ok(end) => Some(Ok((dir, end?))),
        Err(error) => Some(Err(error.to_string())),
    }
}

/// Leaves of each file its end, and gives the last lines of the texts, by file; removes the folder where nothing was collected.
fn shorten(dir: &Path) -> io::Result<Option<String>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        fs::remove_dir(dir)?;
        return Ok(None);
    }
    let mut reported = String::new();
    for path in files {
        let text = end_of(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".log") && !name.ends_with(".txt") {
            continue;
        }
        let lines: Vec<&str> = text.lines().rev().take(SHOWN_LINES).collect();
        for line in lines.into_iter().rev() {
            let line: String = line.chars().take(SHOWN_CHARS).collect();
            reported.push_str(&format!("\n  {name}: {line}"));
        }
    }
    Ok(Some(reported))
}

/// The end of a file, which is all that is left of it then.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let cut = length.saturating_sub(MAX_FILE_BYTES);
    file.seek(SeekFrom::Start(cut))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if cut == 0 {
        return Ok(text);
    }
    // From the next whole line on.
    let from = text.find('\n').map_or(0, |at| at + 1);
    let text = format!("(only the end of {length} bytes is kept)\n{}", &text[from..]);
    fs::write(path, &text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_keeps_its_end_and_the_last_lines_are_reported() {
        let parent = tempfile::tempdir().unwrap();
        let kept = KeptLogs::new(parent.path().to_owned(), "590bc6e5");
        let dir = kept.of_system(3).unwrap();
        assert!(dir.ends_with("system-3") && dir.starts_with(parent.path()));
        assert_eq!(kept.of_system(3).unwrap(), dir);
        let line = format!("{}\n", "x".repeat(99));
        fs::write(dir.join("a.log"), line.repeat(20_000) + "one\ntwo\n").unwrap();
        fs::write(dir.join("b.json"), "{}\n").unwrap();
        let reported = shorten(&dir).unwrap().unwrap();
        assert_eq!(reported, "\n  a.log: one\n  a.log: two");
        let text = fs::read_to_string(dir.join("a.log")).unwrap();
        assert!(
            text.starts_with("(only the end of 2000008 bytes is kept)\nxxx"),
            "{}",
            &text[..99]
        );
        assert!(text.len() as u64 <= MAX_FILE_BYTES + 100 && text.ends_with("one\ntwo\n"));
        // Where nothing was collected there is no folder to name.
        let empty = kept.of_system(4).unwrap();
        assert_eq!(shorten(&empty).unwrap(), None);
        assert!(!empty.exists());
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("of-somebody-else")).unwrap();
        for run in 0..MAX_RUNS + 5 {
            KeptLogs::new(parent.path().to_owned(), &format!("{run:08}")).of_system(0).unwrap();
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), MAX_RUNS + 1);
        assert!(parent.path().join("of-somebody-else").exists());
    }
}
