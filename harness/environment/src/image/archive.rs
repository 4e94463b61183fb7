//! The archive that an image travels in: Docker's `manifest.json` and an OCI image layout over the same blobs.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::json;
use tar::{Builder, EntryType};

use super::{
    Image, ImageError,
    digest::sha256,
    layer::{header, io_error},
};

/// Writes the whole archive.
pub(super) fn write(image: &Image, to: impl Write) -> Result<(), ImageError> {
    let (layer, config) = (&image.layer, &image.config);
    let config_digest = sha256(config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_digest}"),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{}", layer.digest()),
            "size": layer.archive_bytes(),
        }],
    })
    .to_string();
    let manifest_digest = sha256(manifest.as_bytes());
    let tag = image.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_digest}"),
            "size": manifest.len(),
            "annotations": {
                "io.containerd.image.name": image.reference,
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    });
    let blob = |digest: &str| format!("blobs/sha256/{digest}");
    let docker = json!([{
        "Config": blob(&config_digest),
        "RepoTags": [image.reference],
        "Layers": [blob(layer.digest())],
    }]);
    let failed = || io_error("write", Path::new("the archive"));
    let mut builder = Builder::new(to);
    for folder in ["blobs/", "blobs/sha256/"] {
        let mut header = header(EntryType::Directory, 0o755, 0);
        builder.append_data(&mut header, folder, io::empty()).map_err(failed())?;
    }
    let small = [
        (blob(&config_digest), config.clone()),
        (blob(&manifest_digest), manifest.into_bytes()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("manifest.json".to_owned(), docker.to_string().into_bytes()),
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    for (path, bytes) in small {
        let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice()).map_err(failed())?;
    }
    // Written as it is packed: it may be large.
    let mut header = header(EntryType::Regular, 0o644, layer.archive_bytes());
    header.set_path(blob(layer.digest())).map_err(failed())?;
    header.set_cksum();
    let to = builder.get_mut();
    to.write_all(header.as_bytes()).map_err(failed())?;
    layer.write(&mut *to)?;
    // Archives go in blocks of 512 bytes; so does the layer, being one itself.
    debug_assert_eq!(layer.archive_bytes() % 512, 0);
    let mut to = builder.into_inner().map_err(failed())?;
    to.flush().map_err(failed())
}
