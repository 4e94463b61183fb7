use std::{collections::BTreeSet, fs, io::Read};

use super::*;

fn own_image() -> Image {
    Image::of_program(&std::env::current_exe().unwrap(), &Sources::default()).unwrap()
}

/// The content of each file in an archive, by path.
fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_archive_is_dockers_and_an_oci_layout_and_the_same_every_time() {
    let image = own_image();
    let mut archive = Vec::new();
    image.write(&mut archive).unwrap();
    let mut again = Vec::new();
    own_image().write(&mut again).unwrap();
    assert!(archive == again);

    let files = unpack(&archive);
    for (path, content) in &files {
        if let Some(digest) = path.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty()) {
            assert_eq!(digest, digest::sha256(content));
        }
    }
    let docker = &json(&files["manifest.json"])[0];
    assert_eq!(docker["RepoTags"][0], image.reference());
    let layer = files[docker["Layers"][0].as_str().unwrap()].clone();
    let config = json(&files[docker["Config"].as_str().unwrap()]);
    assert_eq!(config["config"]["User"], USER);
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest::sha256(&layer)));

    let of = |digest: &serde_json::Value| {
        &files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))]
    };
    let manifest = json(of(&json(&files["index.json"])["manifests"][0]["digest"]));
    assert_eq!(json(of(&manifest["config"]["digest"])), config);
    assert_eq!(manifest["layers"][0]["size"], layer.len());

    let inside = unpack(&layer);
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(inside["tracecheck"] == program);
    assert!(inside.contains_key("etc/nsswitch.conf") && inside.contains_key("tmp/"));
    assert_eq!(image.files().len(), inside.keys().filter(|path| !path.ends_with('/')).count());
}

/// The machine's own loader says what a program needs.
#[test]
fn every_shared_object_that_the_loader_loads_is_in_it() {
    let program = std::env::current_exe().unwrap();
    let listed = std::process::Command::new("ldd").arg(&program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names = listed.lines().filter_map(|line| {
        let word = line.split_whitespace().next()?;
        (!word.starts_with("linux-vdso")).then(|| word.rsplit('/').next().unwrap().to_owned())
    });
    let needed: BTreeSet<String> = names.collect();
    assert!(needed.len() >= 2, "{listed}");
    let image = own_image();
    let packed: BTreeSet<String> =
        image.files().iter().map(|(path, _)| path.rsplit('/').next().unwrap().to_owned()).collect();
    assert!(needed.is_subset(&packed), "{needed:?} not in {packed:?}");
}

#[test]
fn the_name_stands_for_the_content_unless_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let named =
        |sources: &Sources| Image::of_program(&program, sources).unwrap().reference().to_owned();
    let first = named(&Sources::default());
    assert!(first.starts_with("localhost/tracecheck:") && first == named(&Sources::default()));
    let certificates = dir.path().join("other.pem");
    fs::write(&certificates, "none").unwrap();
    let sources = Sources { certificates: Some(certificates), ..Sources::default() };
    assert_ne!(first, named(&sources));
    let sources = Sources { reference: Some("mine:1".to_owned()), ..Sources::default() };
    assert_eq!(named(&sources), "mine:1");
}

#[test]
fn what_is_no_executable_and_what_changes_meanwhile_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let error = Image::of_program(&script, &Sources::default()).unwrap_err().to_string();
    assert!(
        error.contains("is not a 64-bit Linux executable") && error.contains("--image"),
        "{error}"
    );
    let error = Image::of_program(&dir.path().join("none"), &Sources::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot open"), "{error}");

    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let image = Image::of_program(&program, &Sources::default()).unwrap();
    let bytes = fs::metadata(&program).unwrap().len();
    fs::File::options().write(true).open(&program).unwrap().set_len(bytes / 2).unwrap();
    let error = image.write(io::sink()).unwrap_err();
    assert!(matches!(&error, ImageError::Changed(path) if *path == program), "{error}");
    fs::File::options().write(true).open(&program).unwrap().set_len(bytes).unwrap();
    let error = image.write(io::sink()).unwrap_err();
    assert!(matches!(&error, ImageError::Changed(path) if *path == program), "{error}");
    let saved = dir.path().join("image.tar");
    image.save(&saved).unwrap_err();
    assert!(!saved.exists());
}
