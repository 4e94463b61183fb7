//! Which shared objects an executable needs, and where they are: what the dynamic loader would find, and what the C library
//! opens by itself to resolve names.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fs::{self, File},
    path::{Path, PathBuf},
};

use object::{
    Endianness, ReadCache, ReadRef, StringTable, elf,
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

use super::ImageError;

/// Libraries that the C library opens to resolve names of hosts and users; newer ones have most of it built in.
const NAME_SERVICES: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];
/// How deep `include` may nest in the loader's configuration.
const MAX_INCLUDES: u32 = 8;
/// The loader's configuration.
const LOADER_CONFIG: &str = "/etc/ld.so.conf";

/// All that an executable needs.
#[derive(Debug)]
pub(super) struct Objects {
    /// Shared objects and the loader, by the paths at which they are to be found.
    pub(super) files: BTreeSet<PathBuf>,
    /// Folders of them in which the loader does not look by itself.
    pub(super) unusual_folders: Vec<String>,
    /// As container images name it.
    pub(super) architecture: &'static str,
}

/// Dependencies of an executable or shared object.
struct Needs {
    machine: u16,
    interpreter: Option<PathBuf>,
    needed: Vec<String>,
    /// Folders of `DT_RPATH`, which also hold for what it needs.
    rpath: Vec<String>,
    /// Folders of `DT_RUNPATH`, for its own needs only.
    runpath: Vec<String>,
}

/// A shared object to be found.
struct Wanted {
    name: String,
    by: PathBuf,
    /// In the order in which they are looked into, before the usual ones.
    folders: Vec<PathBuf>,
    /// That of the executable and of all between.
    rpath: Vec<PathBuf>,
}

/// Returns the shared objects that `program` needs, as the dynamic loader finds them.
pub(super) fn needed_by(program: &Path, library_path: &[PathBuf]) -> Result<Objects, ImageError> {
    let needs = read(program)?;
    let machine = needs.machine;
    let (architecture, triplet) = match machine {
        elf::EM_X86_64 => ("amd64", "x86_64-linux-gnu"),
        elf::EM_AARCH64 => ("arm64", "aarch64-linux-gnu"),
        other => {
            let reason = format!("its machine type is {other}");
            return Err(ImageError::NotLinux { path: program.to_owned(), reason });
        }
    };
    let usual = usual_folders(triplet);
    let configured = loader_config(Path::new(LOADER_CONFIG), MAX_INCLUDES);
    let mut files = BTreeSet::new();
    let mut names = HashSet::new();
    let mut queue = VecDeque::new();
    if let Some(loader) = &needs.interpreter {
        names.extend(loader.file_name().map(|name| name.to_string_lossy().into_owned()));
        files.insert(loader.clone());
    }
    queue.extend(wants(program, &needs, &[], library_path));
    while let Some(wanted) = queue.pop_front() {
        if !names.insert(wanted.name.clone()) {
            continue;
        }
        let fallback = configured.iter().chain(&usual);
        let folders: Vec<&PathBuf> = wanted.folders.iter().chain(fallback).collect();
        let Some((path, needs)) = find(&wanted.name, &folders, machine) else {
            if NAME_SERVICES.contains(&wanted.name.as_str()) {
                continue;
            }
            let searched: Vec<&str> = folders.iter().filter_map(|folder| folder.to_str()).collect();
            return Err(ImageError::MissingObject {
                name: wanted.name,
                needed_by: wanted.by,
                searched: harness_core::source::list(searched),
            });
        };
        if wanted.name == "libc.so.6" {
            let folders: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
            queue.extend(NAME_SERVICES.map(|name| Wanted {
                name: name.to_owned(),
                by: path.clone(),
                folders: folders.clone(),
                rpath: Vec::new(),
            }));
        }
        queue.extend(wants(&path, &needs, &wanted.rpath, library_path));
        files.insert(path);
    }
    let loader = needs.interpreter.as_deref();
    let unusual: BTreeSet<String> = files
        .iter()
        .filter(|file| Some(file.as_path()) != loader)
        .filter_map(|file| file.parent())
        .filter(|folder| !usual.iter().any(|usual| usual == folder))
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    Ok(Objects { files, unusual_folders: unusual.into_iter().collect(), architecture })
}

/// The needs of one object, with the folders to look into first, in the loader's order: `DT_RPATH`s, unless it has a
/// `DT_RUNPATH`, then `LD_LIBRARY_PATH`, then `DT_RUNPATH`.
fn wants(
    path: &Path,
    needs: &Needs,
    inherited: &[PathBuf],
    library_path: &[PathBuf],
) -> Vec<Wanted> {
    let origin = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let origin = origin.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let expand = |folders: &[String]| -> Vec<PathBuf> {
        let expand = |folder: &String| {
            folder.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin).into()
        };
        folders.iter().map(expand).collect()
    };
    let mut rpath = Vec::new();
    if needs.runpath.is_empty() {
        rpath = expand(&needs.rpath);
        rpath.extend_from_slice(inherited);
    }
    let mut folders = rpath.clone();
    folders.extend_from_slice(library_path);
    folders.extend(expand(&needs.runpath));
    let wanted = |name: &String| Wanted {
        name: name.clone(),
        by: path.to_owned(),
        folders: folders.clone(),
        rpath: rpath.clone(),
    };
    needs.needed.iter().map(wanted).collect()
}

/// The first file of that name that is for this machine.
fn find(name: &str, folders: &[&PathBuf], machine: u16) -> Option<(PathBuf, Needs)> {
    let candidates: Vec<PathBuf> = match name.starts_with('/') {
        true => vec![PathBuf::from(name)],
        false => folders.iter().map(|folder| folder.join(name)).collect(),
    };
    candidates.into_iter().find_map(|path| {
        let needs = path.is_file().then(|| read(&path).ok())??;
        (needs.machine == machine).then_some((path, needs))
    })
}

/// Folders in which loaders look by default.
fn usual_folders(triplet: &str) -> Vec<PathBuf> {
    let folders = [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib64".to_owned(),
        "/usr/lib64".to_owned(),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
    ];
    folders.into_iter().map(PathBuf::from).collect()
}

/// The folders that the loader's configuration names. What of it cannot be read names none.
fn loader_config(file: &Path, includes: u32) -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string(file) else { return Vec::new() };
    let mut folders = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include") {
            Some(patterns) if patterns.starts_with([' ', '\t']) && includes > 0 => {
                for pattern in patterns.split_whitespace() {
                    for file in matching(&file.with_file_name("").join(pattern)) {
                        folders.extend(loader_config(&file, includes - 1));
                    }
                }
            }
            _ if line.starts_with('/') => folders.push(PathBuf::from(line)),
            _ => {}
        }
    }
    folders
}

/// The files that a pattern such as `/etc/ld.so.conf.d/*.conf` stands for, sorted; one `*` in the file's name is all that
/// configurations use.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some((before, after)) = name.as_deref().and_then(|name| name.split_once('*')) else {
        return vec![pattern.to_owned()];
    };
    let Some(entries) = pattern.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let fits = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| {
            name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        })
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(fits).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Needs, ImageError> {
    let file = File::open(path).map_err(|source| ImageError::Io {
        what: "open",
        path: path.to_owned(),
        source,
    })?;
    let not_linux = |reason: String| ImageError::NotLinux { path: path.to_owned(), reason };
    let cache = ReadCache::new(file);
    parse(&cache).map_err(|error| not_linux(error.to_string()))
}

fn parse<'data>(data: impl ReadRef<'data>) -> object::read::Result<Needs> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut needs = Needs {
        machine: header.e_machine(endian),
        interpreter: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
    };
    let mut dynamic = None;
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
        }
        if let Some(entries) = segment.dynamic(endian, data)? {
            dynamic = Some(entries);
        }
    }
    let Some(entries) = dynamic else { return Ok(needs) };
    let value = |tag: i64| {
        entries.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.d_val(endian))
    };
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return Ok(needs);
    };
    // The table's address is one in memory; its segment says where that is in the file.
    let offset = segments.iter().find_map(|segment| {
        let start = segment.p_vaddr(endian);
        let within = segment.p_type(endian) == elf::PT_LOAD
            && (start..start.saturating_add(segment.p_filesz(endian))).contains(&address);
        within.then(|| segment.p_offset(endian) + (address - start))
    });
    let Some(offset) = offset else { return Ok(needs) };
    let strings = StringTable::new(data, offset, offset.saturating_add(size));
    for entry in entries {
        let Some(at) = entry.val32(endian) else { continue };
        let text = || strings.get(at).ok().map(|text| String::from_utf8_lossy(text).into_owned());
        let folders = || {
            let text = text().unwrap_or_default();
            text.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
        };
        match entry.tag(endian) {
            elf::DT_NEEDED => needs.needed.extend(text()),
            elf::DT_RPATH => needs.rpath = folders(),
            elf::DT_RUNPATH => needs.runpath = folders(),
            _ => {}
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_configuration_is_followed_through_its_includes() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("ld.so.conf");
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(&main, "# usual\ninclude conf.d/*.conf\n/opt/last\n").unwrap();
        fs::write(dir.path().join("conf.d/b.conf"), "/opt/b # why\n").unwrap();
        fs::write(dir.path().join("conf.d/a.conf"), "/opt/a\ninclude ../ld.so.conf\n").unwrap();
        fs::write(dir.path().join("conf.d/other"), "/opt/other\n").unwrap();
        let folders = loader_config(&main, 1);
        assert_eq!(folders, ["/opt/a", "/opt/b", "/opt/last"].map(PathBuf::from));
        // A circle ends.
        assert!(loader_config(&main, MAX_INCLUDES).len() < 100);
    }

    #[test]
    fn the_loaders_order_is_kept() {
        let needs = |rpath: &[&str], runpath: &[&str]| Needs {
            machine: elf::EM_X86_64,
            interpreter: None,
            needed: vec!["liba.so".to_owned()],
            rpath: rpath.iter().map(|folder| (*folder).to_owned()).collect(),
            runpath: runpath.iter().map(|folder| (*folder).to_owned()).collect(),
        };
        let env = [PathBuf::from("/env")];
        let inherited = [PathBuf::from("/inherited")];
        let folders = |needs: &Needs| {
            let wanted = &wants(Path::new("/no/such/program"), needs, &inherited, &env)[0];
            wanted.folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(folders(&needs(&["$ORIGIN/lib"], &[])), ["/no/such/lib", "/inherited", "/env"]);
        assert_eq!(folders(&needs(&["/r"], &["${ORIGIN}/../run"])), ["/env", "/no/such/../run"]);
    }
}
