//! One container image of the program itself, made without pulling anything.
//!
//! On Linux an executable, the shared objects that it needs and a few small files are a whole image `FROM scratch`. It runs as
//! a user that is not root and writes nothing but `/tmp`. The same input always gives the same image, so that its name, made from
//! its content, shows whether an engine has it already.
//!
//! Left out: compressing, pushing, images of other programs, executables that are not Linux's (the Dockerfile is for those).

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

mod archive;
mod digest;
#[cfg(feature = "docker")]
pub mod docker;
mod elf;
mod layer;
#[cfg(test)]
mod tests;

use self::layer::{Entry, Layer};

/// Path of the program in the image; also its entrypoint.
pub const PROGRAM: &str = "/tracecheck";
/// User that runs it: one without privileges, by number, as Kubernetes' `runAsNonRoot` requires.
pub const USER: &str = "65532:65532";
/// Path of the CA certificates in the image.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Repository of images that no registry has, so that nobody else's image can be pulled in their place.
const REPOSITORY: &str = "localhost/tracecheck";
/// When everything in an image was made: constant, so that the same content is the same image.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Error for an image that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file that belongs into it cannot be read, or the archive cannot be written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// For example `read`.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The program is none that an image can be made of here.
    #[error(
        "`{}` is not a 64-bit Linux executable ({reason}); build the image with the Dockerfile instead, \
         and name it with `--image`",
        path.display()
    )]
    NotLinux {
        /// The program, or a shared object of it.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A shared object is nowhere.
    #[error(
        "`{}` needs the shared object `{name}`, which is in none of {searched}; install it, or set LD_LIBRARY_PATH as for \
         running the program",
        needed_by.display()
    )]
    MissingObject {
        /// Name of the library as the program requests it.
        name: String,
        /// The file that requires it.
        needed_by: PathBuf,
        /// The folders that were looked into.
        searched: String,
    },
    /// A file is not what it was when the image was planned.
    #[error("`{}` changed while it was packed; try again when nothing builds it", .0.display())]
    Changed(PathBuf),
}

/// Folders to search for the image's content, beyond the machine's usual places.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Folders of `LD_LIBRARY_PATH`, in which shared objects are looked for first.
    pub library_path: Vec<PathBuf>,
    /// A file with the certificates of authorities, in PEM; the machine's own where `None`.
    pub certificates: Option<PathBuf>,
    /// Name of the image (`REPOSITORY:TAG`); `None` for one made from its content.
    pub reference: Option<String>,
}

/// An image that is planned: what is in it is known and hashed, nothing is written.
#[derive(Debug, Clone)]
pub struct Image {
    reference: String,
    config: Vec<u8>,
    layer: Layer,
    certificates: Option<PathBuf>,
}

impl Image {
    /// Builds the image of an executable, usually the running one. Reads the complete file: call this where blocking
    /// is acceptable.
    ///
    /// # Errors
    /// If it is not a Linux executable, a library that it needs is missing, or a file cannot be read.
    pub fn of_program(program: &Path, sources: &Sources) -> Result<Self, ImageError> {
        let objects = elf::needed_by(program, &sources.library_path)?;
        let certificates = match &sources.certificates {
            Some(file) => Some(file.clone()),
            None => openssl_probe::probe().cert_file,
        };
        let mut entries = files(program, &objects, certificates.as_deref());
        entries.insert("tmp".to_owned(), Entry::Folder { mode: 0o1777 });
        let layer = Layer::plan(entries)?;
        let config = config(&layer, &objects);
        let id = digest::sha256(&config);
        let reference = match &sources.reference {
            Some(reference) => reference.clone(),
            None => format!("{REPOSITORY}:{}", &id[..16]),
        };
        Ok(Self { reference, config, layer, certificates })
    }

    /// Returns the image's name and tag.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Returns the image's id, the digest of its configuration, as engines report it: `sha256:…`.
    pub fn id(&self) -> String {
        format!("sha256:{}", digest::sha256(&self.config))
    }

    /// Returns the total size of the image's files in bytes, as an engine stores them.
    pub fn bytes(&self) -> u64 {
        self.layer.bytes()
    }

    /// Lists the image's files by path, with their sizes in bytes.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.layer.files()
    }

    /// Returns the file of the image's CA certificates; without certificates its programs cannot use TLS.
    pub fn certificates(&self) -> Option<&Path> {
        self.certificates.as_deref()
    }

    /// Writes the image as one archive that is both Docker's (`docker load`, `kind load image-archive`) and an OCI
    /// image layout (`ctr images import`, `podman load`).
    ///
    /// # Errors
    /// When a file cannot be read, is another one now, or the archive cannot be written.
    pub fn write(&self, to: impl Write) -> Result<(), ImageError> {
        archive::write(self, to)
    }

    /// Writes the archive into a file, which replaces an existing one only when it is complete.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn save(&self, path: &Path) -> Result<(), ImageError> {
        let failed = |source| ImageError::Io { what: "write", path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        let mut writer = io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
        self.write(&mut writer)?;
        writer.flush().map_err(failed)?;
        drop(writer);
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// The beginning of a digest, for names that must not be long.
#[cfg(feature = "docker")]
pub(crate) fn short_digest(bytes: &[u8]) -> String {
    digest::sha256(bytes)[..8].to_owned()
}

/// All but `/tmp`, by path without the leading `/`.
fn files(
    program: &Path,
    objects: &elf::Objects,
    certificates: Option<&Path>,
) -> BTreeMap<String, Entry> {
    let executable = |path: &Path| Entry::File { from: path.to_owned(), mode: 0o755 };
    let text = |text: &str| Entry::Text(text.to_owned());
    let mut entries = BTreeMap::from([
        (PROGRAM.trim_start_matches('/').to_owned(), executable(program)),
        (
            "etc/passwd".to_owned(),
            text("root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/nologin\n"),
        ),
        ("etc/group".to_owned(), text("root:x:0:\nnonroot:x:65532:\n")),
        // Names of other containers and pods come by DNS.
        ("etc/nsswitch.conf".to_owned(), text("passwd: files\ngroup: files\nhosts: files dns\n")),
        // Where the files of a workload are put, also where the root cannot be written to.
        ("etc/tracecheck/files".to_owned(), Entry::Folder { mode: 0o755 }),
    ]);
    if let Some(certificates) = certificates {
        let from = Entry::File { from: certificates.to_owned(), mode: 0o644 };
        entries.insert(CERTIFICATES.trim_start_matches('/').to_owned(), from);
    }
    for object in &objects.files {
        let path = object.to_string_lossy().trim_start_matches('/').to_owned();
        entries.insert(path, executable(object));
    }
    entries
}

fn config(layer: &Layer, objects: &elf::Objects) -> Vec<u8> {
    let mut env = vec!["PATH=/".to_owned()];
    if !objects.unusual_folders.is_empty() {
        env.push(format!("LD_LIBRARY_PATH={}", objects.unusual_folders.join(":")));
    }
    let digest = format!("sha256:{}", layer.digest());
    json!({
        "created": CREATED,
        "architecture": objects.architecture,
        "os": "linux",
        "config": {
            "User": USER,
            "Env": env,
            "Entrypoint": [PROGRAM],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "tracecheck",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest] },
        "history": [{ "created": CREATED, "created_by": "tracecheck image build" }],
    })
    .to_string()
    .into_bytes()
}
