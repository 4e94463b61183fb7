//! Hashes passwords by MD5 as `htpasswd` does by default, and crypt(3) once did: poorly, and still often met.

use md5::{Digest as _, Md5};

/// Beginning of hashes of Apache's `htpasswd`.
pub(super) const APACHE: &str = "$apr1$";
/// Beginning of hashes of crypt(3).
pub(super) const CRYPT: &str = "$1$";

const ROUNDS: usize = 1000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Returns what stands behind the salt in a hash of this password: 22 characters. The steps are those of FreeBSD's `crypt_md5`.
pub(super) fn md5_crypt(password: &str, salt: &str, prefix: &str) -> String {
    let (password, salt) = (password.as_bytes(), salt.as_bytes());
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut first = Md5::new().chain_update(password).chain_update(prefix).chain_update(salt);
    for at in (0..password.len()).step_by(inner.len()) {
        first.update(&inner[..inner.len().min(password.len() - at)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        let is_odd = round % 2 == 1;
        next.update(if is_odd { password } else { &digest[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &digest[..] } else { password });
        digest = next.finalize();
    }
    let of = |high: usize, middle: usize, low: usize| {
        u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low])
    };
    let groups =
        [of(0, 6, 12), of(1, 7, 13), of(2, 8, 14), of(3, 9, 15), of(4, 10, 5), digest[11].into()];
    let mut out = String::with_capacity(22);
    for (index, mut group) in groups.into_iter().enumerate() {
        for _ in 0..if index == 5 { 2 } else { 4 } {
            out.push(char::from(ALPHABET[(group & 0x3f) as usize]));
            group >>= 6;
        }
    }
    out
}
