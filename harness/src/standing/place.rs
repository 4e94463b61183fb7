//! The folder of a standing system: who keeps it, what is known of it, how it ended.
//!
//! - `keeper` is locked as long as the keeper lives, and holds its process id;
//! - `system.json` is there from when the system is ready;
//! - `ended` is there once the keeper has taken it down;
//! - `keeper.log` is what the keeper printed.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Standing;

const KEEPER: &str = "keeper";
const SYSTEM: &str = "system.json";
const ENDED: &str = "ended";
const LOG: &str = "keeper.log";

/// Error for the folder of a standing system.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A keeper has a system of that name already.
    #[error(
        "a system `{name}` is up or starting already (kept by process {keeper}): `tracecheck status` shows it, `tracecheck down {name}` takes it down, and `--name` gives another one its own name"
    )]
    Taken {
        /// The system's name.
        name: String,
        /// The keeper's process id, as far as it is known.
        keeper: String,
    },
    /// Not a name for a folder.
    #[error("`{0}` is not a valid name for a system: use letters, digits, `-` and `_`, at most 40")]
    Name(String),
    /// A file of it.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// For example `write`.
        what: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file does not hold a system's state.
    #[error("{} cannot be read: {reason}; remove it if it is not needed", path.display())]
    Garbled {
        /// Path of the file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

/// The folder of one standing system.
#[derive(Debug, Clone)]
pub struct StandingPlace {
    name: String,
    dir: PathBuf,
}

/// A folder whose keeper is this process.
#[derive(Debug)]
pub struct Placed {
    place: StandingPlace,
    /// Locked as long as it is open.
    _keeper: File,
}

fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + use<'a> {
    move |source| PlaceError::Io { what, path: path.to_owned(), source }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock gives no sign when it is free; it is asked five times"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, PlaceError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

/// Writes a new file and puts it in the old one's place, so that a reader sees one or the other.
fn replace(path: &Path, contents: &[u8]) -> Result<(), PlaceError> {
    let new = path.with_extension("new");
    fs::write(&new, contents).map_err(at("write", &new))?;
    fs::rename(&new, path).map_err(at("write", path))
}

/// Lists all standing systems below `parent`, sorted by name.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn all(parent: &Path) -> Result<Vec<StandingPlace>, PlaceError> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("read", parent)(error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut places: Vec<_> =
        names.filter_map(|name| StandingPlace::new(parent, &name).ok()).collect();
    places.retain(|place| place.dir.join(KEEPER).exists());
    places.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(places)
}

impl StandingPlace {
    /// Returns the place of the system called `name`, whether or not that system exists.
    ///
    /// # Errors
    /// When the name cannot be a folder's.
    pub fn new(parent: &Path, name: &str) -> Result<Self, PlaceError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > 40 || !name.bytes().all(fits) {
            return Err(PlaceError::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), dir: parent.join(name) })
    }

    /// Returns the system's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the keeper's output.
    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// Creates the folder.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn make(&self) -> Result<(), PlaceError> {
        fs::create_dir_all(&self.dir).map_err(at("create", &self.dir))
    }

    /// Makes this process the system's keeper, and discards the state of an earlier one.
    ///
    /// # Errors
    ///
    /// If there is a keeper already, or the folder cannot be used.
    pub fn take(&self) -> Result<Placed, PlaceError> {
        self.make()?;
        let path = self.dir.join(KEEPER);
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(at("open", &path))?;
        let mut locked = file.try_lock();
        // Whoever looks whether there is a keeper holds it for a moment.
        for _ in 0..5 {
            if matches!(locked, Err(TryLockError::WouldBlock)) {
                pause();
                locked = file.try_lock();
            }
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let keeper = read(&path)?.filter(|pid| !pid.is_empty());
                let keeper = keeper.unwrap_or_else(|| "unknown".to_owned());
                return Err(PlaceError::Taken { name: self.name.clone(), keeper });
            }
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
        }
        for old in [SYSTEM, ENDED] {
            let old = self.dir.join(old);
            match fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("remove", &old)(error));
                }
                _ => {}
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(at("write", &path))?;
        Ok(Placed { place: self.clone(), _keeper: file })
    }

    /// Returns the process id of the system's keeper; `None` if no keeper is running.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn keeper(&self) -> Result<Option<u32>, PlaceError> {
        let path = self.dir.join(KEEPER);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
        }
        let pid = read(&path)?.unwrap_or_default();
        let garbled = |_| PlaceError::Garbled {
            path: path.clone(),
            reason: format!("`{pid}` is not a process id"),
        };
        // It is locked a moment before the id is written.
        if pid.is_empty() { Ok(None) } else { pid.parse().map(Some).map_err(garbled) }
    }

    /// Reads the state of the system, if it was ready once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn standing(&self) -> Result<Option<Standing>, PlaceError> {
        let path = self.dir.join(SYSTEM);
        let parse = |text: String| {
            serde_json::from_str(&text).map_err(|error| PlaceError::Garbled {
                path: path.clone(),
                reason: error.to_string(),
            })
        };
        read(&path)?.map(parse).transpose()
    }

    /// Returns how the system ended, if its keeper took it down: an empty text after a clean end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn end(&self) -> Result<Option<String>, PlaceError> {
        read(&self.dir.join(ENDED))
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<(), PlaceError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("remove", &self.dir)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Placed {
    /// Writes the state of the system.
    pub(super) fn report(&self, standing: &Standing) -> Result<(), PlaceError> {
        let text = serde_json::to_vec_pretty(standing).unwrap_or_default();
        replace(&self.place.dir.join(SYSTEM), &text)
    }

    /// Records that the system is gone, and how it ended: `how` is empty after a clean end.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn report_end(&self, how: &str) -> Result<(), PlaceError> {
        replace(&self.place.dir.join(ENDED), how.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_keepers_as_long_as_it_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let place = StandingPlace::new(parent.path(), "work").unwrap();
        assert_eq!(place.keeper().unwrap(), None);
        assert!(all(parent.path()).unwrap().is_empty());
        let placed = place.take().unwrap();
        assert_eq!(place.keeper().unwrap(), Some(std::process::id()));
        let taken = place.take().unwrap_err().to_string();
        assert!(taken.contains(&format!("kept by process {}", std::process::id())), "{taken}");
        placed.report_end("badly").unwrap();
        drop(placed);
        assert_eq!(place.keeper().unwrap(), None);
        assert_eq!(place.end().unwrap().as_deref(), Some("badly"));
        let names: Vec<_> = all(parent.path()).unwrap().iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, ["work"]);
        let again = place.take().unwrap();
        assert_eq!(place.end().unwrap(), None, "what was before is forgotten");
        drop(again);
        place.remove().unwrap();
        assert!(all(parent.path()).unwrap().is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b", "ä", &"x".repeat(41)] {
            assert!(StandingPlace::new(Path::new("/tmp"), name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_garbled_state_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let place = StandingPlace::new(parent.path(), "work").unwrap();
        place.make().unwrap();
        fs::write(parent.path().join("work").join(SYSTEM), "{").unwrap();
        let error = place.standing().unwrap_err().to_string();
        assert!(error.contains("system.json") && error.contains("EOF"), "{error}");
    }
}
