//! Checks the key of a request. Nothing here talks to the proxy: `cargo test` runs it natively.

use crate::config::{Digest, Key};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What a request's credential is.
#[derive(Debug, PartialEq)]
pub enum Verdict<'a> {
    /// The key of this name.
    Known(&'a str),
    /// None, or one of another kind.
    Missing,
    /// An invalid key.
    Wrong,
}

/// Check the value of the header that should contain a key after the word `scheme`.
///
/// Every digest is compared, in constant time, so that the duration reveals neither how close a guess was
/// nor whose key it was.
pub fn judge<'a>(value: Option<&[u8]>, scheme: &str, keys: &'a [Key]) -> Verdict<'a> {
    let Some(credential) = value.and_then(|value| after(scheme, value)) else {
        return Verdict::Missing;
    };
    let digest = digest(credential);
    let mut verdict = Verdict::Wrong;
    for key in keys {
        if bool::from(key.sha256.0.ct_eq(&digest.0)) {
            verdict = Verdict::Known(&key.name);
        }
    }
    verdict
}

/// Whether the path of a request target, without its query, is exactly one of these.
pub fn is_open(target: &[u8], paths: &[String]) -> bool {
    let path = target.split(|c| *c == b'?').next().unwrap_or_default();
    paths.iter().any(|open| open.as_bytes() == path)
}

/// Whether an upstream could confuse two header names, as CGI does: it treats `x_user` and `x-user` alike.
/// Both must be in lower case.
pub fn is_confused_with(sent: &str, meant: &str) -> bool {
    let alike =
        |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    sent.len() == meant.len() && sent.bytes().zip(meant.bytes()).all(alike)
}

/// What follows the scheme, which is case-insensitive (RFC 9110, 11.1).
fn after<'a>(scheme: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    let rest = if scheme.is_empty() {
        value
    } else {
        let (word, rest) = (value.get(..scheme.len())?, value.get(scheme.len()..)?);
        let apart = rest.first() == Some(&b' ');
        (apart && word.eq_ignore_ascii_case(scheme.as_bytes())).then_some(rest)?
    };
    let spaces = rest.iter().take_while(|c| **c == b' ').count();
    let credential = rest.get(spaces..)?; // the proxy has trimmed trailing spaces
    (!credential.is_empty()).then_some(credential)
}

fn digest(credential: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(Sha256::digest(credential).into())
}

#[cfg(test)]
mod tests {
    use super::{digest, is_confused_with, is_open, judge, Key, Verdict};

    fn keys() -> Vec<Key> {
        let named = |name: &str, key: &[u8]| Key {
            name: name.into(),
            sha256: digest(key),
        };
        vec![
            named("ann", b"one"),
            named("bob", b"two"),
            named("ann", b"three"),
        ]
    }

    #[test]
    fn a_digest_is_sha_256() {
        let abc = digest(b"abc").0; // FIPS 180-2, appendix B.1
        assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(abc[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn every_key_is_known_by_its_name() {
        let keys = keys();
        for (key, name) in [("one", "ann"), ("two", "bob"), ("three", "ann")] {
            let value = format!("Bearer {key}");
            assert_eq!(
                judge(Some(value.as_bytes()), "Bearer", &keys),
                Verdict::Known(name)
            );
        }
    }

    #[test]
    fn a_scheme_is_case_insensitive_and_a_separate_word() {
        let keys = keys();
        for (value, verdict) in [
            (&b"bearer one"[..], Verdict::Known("ann")),
            (b"BEARER   one", Verdict::Known("ann")),
            (b"Bearer\tone", Verdict::Missing),
            (b"Bearerone", Verdict::Missing),
            (b"Bearer", Verdict::Missing),
            (b"Bearer  ", Verdict::Missing),
            (b"Basic one", Verdict::Missing),
            (b"", Verdict::Missing),
            (b"Bearer One", Verdict::Wrong),
            (b"Bearer one,Bearer one", Verdict::Wrong),
            (b"Bearer \xff\xfe", Verdict::Wrong),
        ] {
            assert_eq!(
                judge(Some(value), "Bearer", &keys),
                verdict,
                "{}",
                value.escape_ascii()
            );
        }
        assert_eq!(judge(None, "Bearer", &keys), Verdict::Missing);
    }

    #[test]
    fn without_a_scheme_the_value_is_the_key() {
        let keys = keys();
        assert_eq!(judge(Some(b"two"), "", &keys), Verdict::Known("bob"));
        assert_eq!(judge(Some(b"Bearer two"), "", &keys), Verdict::Wrong);
        assert_eq!(judge(Some(b""), "", &keys), Verdict::Missing);
    }

    #[test]
    fn without_keys_nobody_gets_in() {
        assert_eq!(judge(Some(b"Bearer one"), "Bearer", &[]), Verdict::Wrong);
    }

    #[test]
    fn names_that_differ_only_in_punctuation_are_confused() {
        for sent in ["x-user", "x_user", "x.user"] {
            assert!(is_confused_with(sent, "x-user"), "{sent}");
            assert!(is_confused_with("x-user", sent), "{sent}");
        }
        for sent in ["", "x-use", "x-users", "xauser", "x--user"] {
            assert!(!is_confused_with(sent, "x-user"), "{sent}");
        }
    }

    #[test]
    fn open_paths_are_exact() {
        let paths = ["/health".to_owned()];
        for target in ["/health", "/health?", "/health?a=/b"] {
            assert!(is_open(target.as_bytes(), &paths), "{target}");
        }
        for target in [
            "/",
            "/healthy",
            "/health/",
            "/health/../admin",
            "/HEALTH",
            "//health",
            "",
        ] {
            assert!(!is_open(target.as_bytes(), &paths), "{target}");
        }
    }
}
