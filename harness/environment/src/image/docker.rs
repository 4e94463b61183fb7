//! Handing the image to a Docker engine.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use testcontainers::{
    bollard::{Docker, errors::Error, query_parameters::ImportImageOptions},
    core::client::docker_client_instance,
};
use tokio::io::AsyncReadExt;

use super::{Image, ImageError};

/// How much of the archive is sent at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Error for an image that cannot be loaded into an engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no archive to hand over.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The engine cannot be asked.
    #[error("{0}")]
    Engine(String),
    /// The engine refused it.
    #[error("Docker rejects the image `{reference}`: {reason}")]
    Refused {
        /// The image.
        reference: String,
        /// Its message.
        reason: String,
    },
}

/// Loads the image into the Docker engine that the environment names (`DOCKER_HOST`, else the default socket), unless
/// the engine has it already; returns whether it was loaded.
///
/// # Errors
/// When the engine does not answer, or does not take it.
pub async fn load(image: &Image) -> Result<bool, LoadError> {
    let docker = docker_client_instance().await.map_err(|e| LoadError::Engine(e.to_string()))?;
    load_into(&docker, image).await
}

/// As [`load`], into this engine.
///
/// # Errors
/// As [`load`].
pub(crate) async fn load_into(docker: &Docker, image: &Image) -> Result<bool, LoadError> {
    match docker.inspect_image(image.reference()).await {
        Ok(found) if found.id.as_deref() == Some(&image.id()) => return Ok(false),
        Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => return Err(LoadError::Engine(harness_core::chain_of(&error))),
    }
    let (written, packed) = (tempfile::NamedTempFile::new(), image.clone());
    let archive = written.map_err(|source| ImageError::Io {
        what: "create a file in",
        path: std::env::temp_dir(),
        source,
    })?;
    let archive =
        tokio::task::spawn_blocking(move || packed.save(archive.path()).map(|()| archive));
    let archive = archive.await.map_err(|error| LoadError::Engine(error.to_string()))??;
    let path = archive.path().to_owned();
    let failed = |source| ImageError::Io { what: "read", path: path.clone(), source };
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let chunks = stream::try_unfold(file, async |mut file| {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let refused =
        |reason: String| LoadError::Refused { reference: image.reference().to_owned(), reason };
    let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
    let mut reported = docker.import_image_stream(options, chunks, None);
    while let Some(line) = reported.next().await {
        line.map_err(|error| refused(harness_core::chain_of(&error)))?;
    }
    // It answers 200 also to an archive of which it takes nothing.
    match docker.inspect_image(image.reference()).await {
        Ok(_) => Ok(true),
        Err(error) => Err(refused(harness_core::chain_of(&error))),
    }
}
