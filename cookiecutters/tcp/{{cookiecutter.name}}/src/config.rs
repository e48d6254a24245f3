//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::net::IpAddr;
use std::num::NonZeroU64;

/// Which connections are allowed, and how much they may send.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The first bytes that a client may send; other connections never reach the upstream. Empty: anything.
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub first_bytes: Vec<String>,
    /// How many bytes a client may send on one connection; null for any number.
    pub max_upload: Option<NonZeroU64>,
    /// IP addresses whose connections are closed immediately.
    pub refused_peers: Vec<IpAddr>,
}

impl Config {
    /// Read the configuration; an empty one means the defaults.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if config.first_bytes.iter().any(String::is_empty) {
            return Err("first_bytes: an empty entry would allow everything".into());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn an_empty_configuration_means_the_defaults() {
        assert_eq!(Config::parse(b""), Ok(Config::default()));
        assert_eq!(Config::parse(b"{}"), Ok(Config::default()));
    }

    #[test]
    fn the_default_file_is_valid() {
        assert_eq!(Config::parse(include_bytes!("../config.json")).err(), None);
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (text, expected) in [
            (r#"{"first_byte": []}"#, "unknown field `first_byte`"),
            (r#"{"first_bytes": [""]}"#, "first_bytes: an empty entry"),
            (r#"{"max_upload": 0}"#, "expected a nonzero u64"),
            (r#"{"refused_peers": ["10.0.0"]}"#, "invalid IP address"),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
