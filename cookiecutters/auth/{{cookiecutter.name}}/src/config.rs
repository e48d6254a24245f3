//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;

/// Who may come in, and how a request says who it is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The keys that let a request in; without one, only open paths can be reached.
    pub keys: Vec<Key>,
    /// The header that a key comes in, in lower case.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub header: String,
    /// The word before the key in that header; empty where the key stands alone.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]*$"))
    )]
    pub scheme: String,
    /// What the answer 401 calls the place that needs a key.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[ !#-\\[\\]-~]*$")))]
    pub realm: String,
    /// Whether the key is taken out of the request, so that the upstream never sees it.
    pub strip: bool,
    /// The header in which the upstream is told the key's name; a client's own is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub name_header: String,
    /// Paths that need no key: these exactly, with any query.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/[^?#]*$"))))]
    pub open_paths: Vec<String>,
}

/// A key, known by its digest alone. Several may have one name, while one takes the other's place.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is.
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
    /// Read the configuration; none at all stands for the defaults, by which nobody comes in.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
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
                    "{field}: {name:?} is no header's name in lower case"
                ));
            }
        }
        if config.header == config.name_header {
            return Err("name_header: the key comes in that header".into());
        }
        if !is_token(&config.scheme) {
            return Err(format!("scheme: {:?} isn't one word", config.scheme));
        }
        let quotable = |c: u8| matches!(c, b' '..=b'~') && c != b'"' && c != b'\\';
        if !config.realm.bytes().all(quotable) {
            return Err(format!("realm: {:?} can't be quoted", config.realm));
        }
        for Key { name, .. } in &config.keys {
            if name.is_empty() || !name.bytes().all(|c| c.is_ascii_graphic()) {
                return Err(format!("keys: {name:?} can't stand in a header as a name"));
            }
        }
        for path in &config.open_paths {
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return Err(format!("open_paths: {path:?} is no path without a query"));
            }
        }
        Ok(config)
    }
}

/// Whether it has but the characters of a token (RFC 9110, 5.6.2).
fn is_token(word: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&c);
    word.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::{Config, Digest};

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn nothing_stands_for_the_defaults() {
        assert_eq!(Config::parse(b""), Ok(Config::default()));
        assert_eq!(Config::parse(b"{}"), Ok(Config::default()));
        assert!(Config::default().keys.is_empty());
    }

    #[test]
    fn the_file_that_comes_with_it_can_be_read() {
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
    fn what_is_wrong_is_said() {
        let short = format!(
            r#"{{"keys": [{{"name": "a", "sha256": "{}"}}]}}"#,
            &ZEROS[1..]
        );
        let sign = format!(
            r#"{{"keys": [{{"name": "a", "sha256": "+{}"}}]}}"#,
            &ZEROS[1..]
        );
        let space = format!(r#"{{"keys": [{{"name": "a b", "sha256": "{ZEROS}"}}]}}"#);
        for (given, said) in [
            (r#"{"kyes": []}"#, "unknown field `kyes`"),
            (r#"{"keys": [{"name": "a"}]}"#, "missing field `sha256`"),
            (&short, "a digest has 64 hexadecimal digits"),
            (&sign, "a digest has 64 hexadecimal digits"),
            (&space, "keys: \"a b\" can't stand in a header"),
            (r#"{"header": "X-Key"}"#, "header: \"X-Key\" is no header's"),
            (r#"{"header": ":path"}"#, "header: \":path\" is no header's"),
            (r#"{"name_header": ""}"#, "name_header: \"\" is no header's"),
            (
                r#"{"header": "x-auth-name"}"#,
                "the key comes in that header",
            ),
            (
                r#"{"scheme": "My Key"}"#,
                "scheme: \"My Key\" isn't one word",
            ),
            (r#"{"realm": "\""}"#, "can't be quoted"),
            (r#"{"open_paths": ["x"]}"#, "open_paths: \"x\" is no path"),
            (
                r#"{"open_paths": ["/?a"]}"#,
                "open_paths: \"/?a\" is no path",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
