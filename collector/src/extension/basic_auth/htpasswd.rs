//! Users as Apache's `htpasswd` writes them, with each way to hash a password that go-htpasswd knows, which the Collector uses.

use std::collections::HashMap;
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};
use sha_crypt::{PasswordHashRef, PasswordVerifier as _, ShaCrypt};

use super::md5_crypt::{self, md5_crypt};
use crate::extension::credentials::is_same;

/// The highest cost of bcrypt that is accepted: checking such a password takes seconds.
const MAX_COST: u32 = 15;
/// Most rounds of SHA-crypt that are accepted.
const MAX_ROUNDS: u32 = 1_000_000;

/// Users by their names.
#[derive(Default)]
pub(super) struct Users(HashMap<String, Stored>);

/// A password as it is kept.
pub(super) enum Stored {
    Plain(String),
    Bcrypt(String),
    /// The digest, and what is behind the password in it.
    Sha1(Vec<u8>, Vec<u8>),
    ShaCrypt(String),
    Md5 {
        prefix: &'static str,
        salt: String,
        hash: String,
    },
}

impl Users {
    /// Reads users of a file and of the config, which goes before it.
    ///
    /// # Errors
    ///
    /// The line that cannot be used, why, and what to do. Neither names nor passwords are in it.
    pub(super) fn read(file: &str, inline: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for text in [file, inline] {
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let number = index + 1;
                let (name, password) = line.split_once(':').ok_or_else(|| {
                    format!("line {number} has no `:`; write `name:password` in each line, as `htpasswd` does")
                })?;
                let stored = Stored::read(password)
                    .map_err(|problem| format!("the password in line {number} {problem}"))?;
                users.insert(name.to_owned(), stored);
            }
        }
        match users.is_empty() {
            true => {
                Err("there is no user; write `name:password` in each line, as `htpasswd` does"
                    .into())
            }
            false => Ok(Self(users)),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Stored> {
        self.0.get(name)
    }
}

impl Stored {
    fn read(text: &str) -> Result<Self, String> {
        const AGAIN: &str = "write it anew with `htpasswd`";
        for prefix in [md5_crypt::APACHE, md5_crypt::CRYPT] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (salt, hash) =
                    rest.split_once('$').ok_or_else(|| format!("is no whole MD5; {AGAIN}"))?;
                return Ok(Self::Md5 { prefix, salt: salt.into(), hash: hash.into() });
            }
        }
        for (prefix, is_salted) in [("{SHA}", false), ("{SSHA}", true)] {
            let Some(rest) = text.strip_prefix(prefix) else { continue };
            let bytes = STANDARD.decode(rest).ok().filter(|bytes| match is_salted {
                true => bytes.len() >= SHA1_OUTPUT_LEN,
                false => bytes.len() == SHA1_OUTPUT_LEN,
            });
            let mut digest = bytes.ok_or_else(|| format!("is no whole SHA-1; {AGAIN}"))?;
            let salt = digest.split_off(SHA1_OUTPUT_LEN);
            return Ok(Self::Sha1(digest, salt));
        }
        if ["$2y$", "$2a$", "$2b$", "$2x$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts = HashParts::from_str(text);
            let parts = parts.map_err(|_| format!("is no whole bcrypt; {AGAIN} -B"))?;
            if parts.get_cost() > MAX_COST {
                return Err(format!(
                    "is bcrypt of a cost above {MAX_COST}, which takes longer to check than a sender waits; {AGAIN} -B -C 10"
                ));
            }
            return Ok(Self::Bcrypt(text.into()));
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            let rounds = text.split('$').nth(2).and_then(|part| part.strip_prefix("rounds="));
            let rounds = rounds.map(str::parse::<u32>);
            match rounds {
                Some(Ok(rounds)) if rounds > MAX_ROUNDS => {
                    return Err(format!(
                        "has more than {MAX_ROUNDS} rounds, which take longer to check than a sender waits; {AGAIN}"
                    ));
                }
                Some(Err(_)) => return Err(format!("is no whole SHA-2; {AGAIN}")),
                _ => {}
            }
            if text.split('$').count() < 4 {
                return Err(format!("is no whole SHA-2; {AGAIN}"));
            }
            return Ok(Self::ShaCrypt(text.into()));
        }
        Ok(Self::Plain(text.into()))
    }

    /// Returns whether this is the password.
    pub(super) fn is(&self, password: &str) -> bool {
        match self {
            // As nginx marks it.
            Self::Plain(text) => {
                let marked = text.strip_prefix("{PLAIN}");
                is_same(text.as_bytes(), password.as_bytes())
                    || marked.is_some_and(|text| is_same(text.as_bytes(), password.as_bytes()))
            }
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha1(known, salt) => {
                let salted = [password.as_bytes(), salt.as_slice()].concat();
                let found = digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted);
                is_same(found.as_ref(), known)
            }
            Self::ShaCrypt(hash) => PasswordHashRef::new(hash).is_ok_and(|hash| {
                ShaCrypt::default().verify_password(password.as_bytes(), hash).is_ok()
            }),
            Self::Md5 { prefix, salt, hash } => {
                is_same(md5_crypt(password, salt, prefix).as_bytes(), hash.as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Users;

    #[test]
    fn every_way_to_hash_a_password_is_known() {
        // By `openssl passwd`, and of bcrypt by its author's test vectors.
        for (stored, password) in [
            ("open", "open"),
            ("{PLAIN}open", "open"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password"),
            ("{SSHA}IdfzURG1vYyQ1FyGVPK2qgo4BTpzYWx0", "sesame"),
            ("$apr1$saltsalt$1wcO0UXrrrYuRqru5simD1", "sesame"),
            ("$apr1$salt$b./2rk.uvTG6B5pqC6oac0", "a password that is longer than sixteen bytes"),
            ("$1$saltsalt$J3RStOYaRn/5Iz9DGbAnx1", "sesame"),
            ("$5$saltsalt$Arv3XkXcPR5LHLrzVCBdKV5hwRocYIyFvUvGa9tbc06", "sesame"),
            (
                "$6$saltsalt$g3uPFdehVnKoLXdidvSAg1zlVgYomPr0X/xgdXSBn2LuxZUOGgYW4IULZkguZ77fzYteIur49AGHmF9iek6Sf1",
                "sesame",
            ),
            ("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
            ("$2y$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
        ] {
            let users = Users::read(&format!("# of the shop\n\nshop:{stored}\n"), "").unwrap();
            let user = users.find("shop").unwrap();
            assert!(user.is(password), "{stored}");
            assert!(!user.is("other") && !user.is(""), "{stored}");
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused_with_its_line() {
        for (line, problem) in [
            ("shop", "line 2 has no `:`"),
            ("shop:{SHA}abc", "is no whole SHA-1"),
            ("shop:{SSHA}abc=", "is no whole SHA-1"),
            ("shop:$apr1$salt", "is no whole MD5"),
            ("shop:$2y$10$short", "is no whole bcrypt"),
            (
                "shop:$2y$17$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
                "a cost above 15",
            ),
            ("shop:$6$rounds=2000000$salt$hash", "more than 1000000 rounds"),
            ("shop:$6$salt", "is no whole SHA-2"),
        ] {
            let found = Users::read(&format!("a:b\n{line}"), "").err().unwrap_or_default();
            assert!(found.contains(problem) && found.contains("line 2"), "{line}: {found}");
        }
        assert!(Users::read("# nobody\n", "\n").is_err_and(|error| error.contains("no user")));
        let users = Users::read("shop:a", "shop:b").unwrap();
        assert!(users.find("shop").unwrap().is("b"), "the config goes before the file");
    }
}
