//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;

/// Who gets in, and how a request proves who it is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The valid keys; without any, only open paths can be reached.
    pub keys: Vec<Key>,
    /// The header that contains the key, in lower case.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub header: String,
    /// The word before the key in this header; empty if the key is sent alone.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]*$"))
    )]
    pub scheme: String,
    /// The realm that a 401 response names.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[ !#-\\[\\]-~]*$")))]
    pub realm: String,
    /// Whether to remove the key from the request, so that the upstream never sees it.
    pub strip: bool,
    /// The header that tells the upstream the key's name; one that the client sends is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub name_header: String,
    /// Paths that need no key; they must match exactly, with any query.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/[^?#]*$"))))]
    pub open_paths: Vec<String>,
}

/// A key, of which only the digest is known. Several keys can have the same name, so that one can be replaced.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The name of the key's owner.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]+$")))]
    pub name: String,
    /// The SHA-256 digest of the key, as 64 hexadecimal digits.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", regex(pattern = "^[0-9A-Fa-f]{64}$"))
    )]
    pub sha256: Digest,
}

/// A SHA-256 digest.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(serde::Serialize))]
#[serde(try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        let wrong = "a digest has 64 hexadecimal digits";
        let digit = |c: u8| {
            char::from(c)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let digits: Option<Vec<u8>> = hex.bytes().map(digit).collect();
        let pairs = digits.ok_or(wrong)?;
        let bytes: Vec<u8> = pairs
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        if hex.len() == 64 {
            bytes.try_into().map(Self).map_err(|_| wrong)
        } else {
            Err(wrong)
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: vec![],
            header: "authorization".into(),
            scheme: "Bearer".into(),
            realm: "api".into(),
            strip: true,
            name_header: "x-auth-name".into(),
            open_paths: vec![],
        }
    }
}

impl Config {
    /// Read the configuration; an empty one means the defaults, which let nobody in.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for (field, name) in [
            ("header", &config.header),
            ("name_header", &config.name_header),
        ] {
            if name.is_empty() || !is_token(name) || name.bytes().any(|c| c.is_ascii_uppercase()) {
                return Err(format!(
                    "{field}: {name:?} isn't a header name in lower case"
                ));
            }
        }
        if config.header == config.name_header {
            return Err("name_header: this header contains the key".into());
        }
        if !is_token(&config.scheme) {
            return Err(format!("scheme: {:?} isn't a single word", config.scheme));
        }
        let quotable = |c: u8| matches!(c, b' '..=b'~') && c != b'"' && c != b'\\';
        if !config.realm.bytes().all(quotable) {
            return Err(format!("realm: {:?} can't be quoted", config.realm));
        }
        for Key { name, .. } in &config.keys {
            if name.is_empty() || !name.bytes().all(|c| c.is_ascii_graphic()) {
                return Err(format!("keys: {name:?} isn't a name of visible ASCII"));
            }
        }
        for path in &config.open_paths {
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return Err(format!("open_paths: {path:?} isn't a path without a query"));
            }
        }
        Ok(config)
    }
}

/// Whether it has only characters of a token (RFC 9110, 5.6.2).
fn is_token(word: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&c);
    word.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::{Config, Digest};

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn an_empty_configuration_means_the_defaults() {
        assert_eq!(Config::parse(b""), Ok(Config::default()));
        assert_eq!(Config::parse(b"{}"), Ok(Config::default()));
        assert!(Config::default().keys.is_empty());
    }

    #[test]
    fn the_default_file_is_valid() {
        assert_eq!(Config::parse(include_bytes!("../config.json")).err(), None);
    }

    #[test]
    fn a_digest_is_read_in_either_case() {
        let mut expected = [0; 32];
        expected[0] = 0xab;
        for first in ["ab", "AB", "aB"] {
            let read = Digest::try_from(format!("{first}{}", &ZEROS[2..]));
            assert_eq!(read, Ok(Digest(expected)));
        }
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let short = format!(
            r#"{{"keys": [{{"name": "a", "sha256": "{}"}}]}}"#,
            &ZEROS[1..]
        );
        let sign = format!(
            r#"{{"keys": [{{"name": "a", "sha256": "+{}"}}]}}"#,
            &ZEROS[1..]
        );
        let space = format!(r#"{{"keys": [{{"name": "a b", "sha256": "{ZEROS}"}}]}}"#);
        for (text, expected) in [
            (r#"{"kyes": []}"#, "unknown field `kyes`"),
            (r#"{"keys": [{"name": "a"}]}"#, "missing field `sha256`"),
            (&short, "a digest has 64 hexadecimal digits"),
            (&sign, "a digest has 64 hexadecimal digits"),
            (&space, "keys: \"a b\" isn't a name"),
            (
                r#"{"header": "X-Key"}"#,
                "header: \"X-Key\" isn't a header name",
            ),
            (
                r#"{"header": ":path"}"#,
                "header: \":path\" isn't a header name",
            ),
            (
                r#"{"name_header": ""}"#,
                "name_header: \"\" isn't a header name",
            ),
            (
                r#"{"header": "x-auth-name"}"#,
                "this header contains the key",
            ),
            (
                r#"{"scheme": "My Key"}"#,
                "scheme: \"My Key\" isn't a single word",
            ),
            (r#"{"realm": "\""}"#, "can't be quoted"),
            (r#"{"open_paths": ["x"]}"#, "open_paths: \"x\" isn't a path"),
            (
                r#"{"open_paths": ["/?a"]}"#,
                "open_paths: \"/?a\" isn't a path",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
