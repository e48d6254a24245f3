//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::net::IpAddr;
use std::num::NonZeroU64;

/// Which connections are let through, and how far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What a client may begin with; the upstream gets no byte of anything else. Empty: anything.
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub first_bytes: Vec<String>,
    /// How many bytes a client may send on one connection; null is any number.
    pub max_upload: Option<NonZeroU64>,
    /// IP addresses whose connections are closed at once.
    pub refused_peers: Vec<IpAddr>,
}

impl Config {
    /// Read the configuration; none at all stands for the defaults.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if config.first_bytes.iter().any(String::is_empty) {
            return Err("first_bytes: one is empty, which any connection begins with".into());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn nothing_stands_for_the_defaults() {
        assert_eq!(Config::parse(b""), Ok(Config::default()));
        assert_eq!(Config::parse(b"{}"), Ok(Config::default()));
    }

    #[test]
    fn the_file_that_comes_with_it_can_be_read() {
        assert_eq!(Config::parse(include_bytes!("../config.json")).err(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, said) in [
            (r#"{"first_byte": []}"#, "unknown field `first_byte`"),
            (r#"{"first_bytes": [""]}"#, "first_bytes: one is empty"),
            (r#"{"max_upload": 0}"#, "expected a nonzero u64"),
            (r#"{"refused_peers": ["10.0.0"]}"#, "invalid IP address"),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
