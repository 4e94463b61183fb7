//! The one layer of the image: its files in a tar archive that is the same for the same files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use super::{ImageError, digest::Hashing};

/// Something in the image.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A folder with this mode.
    Folder { mode: u32 },
    /// A small file.
    Text(String),
    /// The content of a file of this machine.
    File { from: PathBuf, mode: u32 },
}

/// A layer whose digest is known.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// By path without the leading `/`, every folder before what is in it.
    entries: BTreeMap<String, (Entry, u64)>,
    digest: String,
    archive_bytes: u64,
}

impl Layer {
    /// Hashes what the entries are now; adds the folders that they are in.
    pub(super) fn plan(given: BTreeMap<String, Entry>) -> Result<Self, ImageError> {
        let mut entries = BTreeMap::new();
        for (path, entry) in given {
            for folder in Path::new(&path).ancestors().skip(1) {
                let folder = folder.to_string_lossy().into_owned();
                if !folder.is_empty() {
                    entries.entry(folder).or_insert((Entry::Folder { mode: 0o755 }, 0));
                }
            }
            let bytes = match &entry {
                Entry::Folder { .. } => 0,
                Entry::Text(text) => text.len() as u64,
                Entry::File { from, .. } => {
                    std::fs::metadata(from).map_err(io_error("read", from))?.len()
                }
            };
            entries.insert(path, (entry, bytes));
        }
        let mut layer = Self { entries, digest: String::new(), archive_bytes: 0 };
        let mut hashing = Hashing::new(io::sink());
        layer.write_unchecked(&mut hashing)?;
        (layer.digest, layer.archive_bytes) = hashing.finish();
        Ok(layer)
    }

    /// Of the tar archive: SHA-256 in hex.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Length of the tar archive.
    pub(super) fn archive_bytes(&self) -> u64 {
        self.archive_bytes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let files =
            self.entries.iter().filter(|(_, (entry, _))| !matches!(entry, Entry::Folder { .. }));
        files.map(|(path, (_, bytes))| (format!("/{path}"), *bytes)).collect()
    }

    /// Writes the tar archive, which must come out as it was planned.
    pub(super) fn write(&self, to: impl Write) -> Result<(), ImageError> {
        let mut hashing = Hashing::new(to);
        self.write_unchecked(&mut hashing)?;
        if hashing.finish() == (self.digest.clone(), self.archive_bytes) {
            return Ok(());
        }
        // The largest is the program itself, which a build replaces.
        let from = self.entries.values().filter_map(|(entry, bytes)| match entry {
            Entry::File { from, .. } => Some((*bytes, from)),
            _ => None,
        });
        let largest = from.max().map(|(_, from)| from.clone()).unwrap_or_default();
        Err(ImageError::Changed(largest))
    }

    fn write_unchecked(&self, to: impl Write) -> Result<(), ImageError> {
        let mut builder = Builder::new(to);
        for (path, (entry, bytes)) in &self.entries {
            let failed = io_error("pack", Path::new(path));
            match entry {
                Entry::Folder { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    builder.append_data(&mut header, format!("{path}/"), io::empty())
                }
                Entry::Text(text) => {
                    let mut header = header(EntryType::Regular, 0o644, *bytes);
                    builder.append_data(&mut header, path, text.as_bytes())
                }
                Entry::File { from, mode } => {
                    let file = File::open(from).map_err(io_error("open", from))?;
                    let mut header = header(EntryType::Regular, *mode, *bytes);
                    let exactly = Exactly { file, left: *bytes };
                    match builder.append_data(&mut header, path, exactly) {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                            return Err(ImageError::Changed(from.clone()));
                        }
                        appended => appended,
                    }
                }
            }
            .map_err(failed)?;
        }
        let mut to = builder.into_inner().map_err(io_error("pack", Path::new("the layer")))?;
        to.flush().map_err(io_error("pack", Path::new("the layer")))
    }
}

/// As many bytes of a file as were planned; fewer are an error, since they would shift all that follows.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Without owner and time, so that they make no difference.
pub(super) fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

/// Makes an error about a file.
pub(super) fn io_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Io { what, path, source }
}
