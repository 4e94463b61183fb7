//! Names of images.

/// Parts of an image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Takes a name apart; none where it names no image.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon in front of a slash is a port's.
        let folder = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[folder..].split_once(':') {
            Some((last, tag)) => (&rest[..folder + last.len()], Some(tag)),
            None => (rest, None),
        };
        let is_name = !name.is_empty() && !name.ends_with('/');
        (is_name && tag != Some("") && digest != Some("")).then_some(Self { name, tag, digest })
    }

    /// The version that it says.
    pub(super) fn version(&self) -> Option<String> {
        match (self.tag, self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (tag, digest) => tag.or(digest).map(str::to_owned),
        }
    }
}

/// The image that runs, with its registry and digest; none where the runtime knows no digest of a registry.
pub(super) fn canonical(image_id: &str) -> Option<String> {
    let reference = image_id.rsplit("://").next().unwrap_or(image_id);
    let image = Image::parse(reference)?;
    let digest = image.digest.filter(|digest| digest.starts_with("sha256:"))?;
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let name = match image.name.split_once('/') {
        Some((first, _)) if is_registry(first) => image.name.to_owned(),
        Some(_) => format!("docker.io/{}", image.name),
        None => format!("docker.io/library/{}", image.name),
    };
    let tag = image.tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    Some(format!("{name}{tag}@{digest}"))
}

#[cfg(test)]
mod tests {
    use super::{Image, canonical};

    #[test]
    fn images_are_taken_apart() {
        for (text, name, tag, digest) in [
            ("shop", "shop", None, None),
            ("shop:1.2", "shop", Some("1.2"), None),
            ("registry:5000/team/shop", "registry:5000/team/shop", None, None),
            ("registry:5000/shop:1@sha256:ab", "registry:5000/shop", Some("1"), Some("sha256:ab")),
            ("ghcr.io/a/b@sha256:cd", "ghcr.io/a/b", None, Some("sha256:cd")),
        ] {
            assert_eq!(Image::parse(text), Some(Image { name, tag, digest }), "{text}");
        }
        for text in ["", ":1", "a/", "a:", "@sha256:ab"] {
            assert_eq!(Image::parse(text), None, "{text}");
        }
    }

    #[test]
    fn digests_are_those_of_a_registry() {
        let of = |text| canonical(text);
        assert_eq!(of("ghcr.io/a/b@sha256:cd").as_deref(), Some("ghcr.io/a/b@sha256:cd"));
        assert_eq!(of("shop@sha256:cd").as_deref(), Some("docker.io/library/shop@sha256:cd"));
        assert_eq!(of("team/shop@sha256:cd").as_deref(), Some("docker.io/team/shop@sha256:cd"));
        assert_eq!(of("docker-pullable://a.b/c@sha256:cd").as_deref(), Some("a.b/c@sha256:cd"));
        assert_eq!(of("sha256:cd"), None);
        assert_eq!(of("shop:1"), None);
    }
}
