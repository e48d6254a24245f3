//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::num::NonZeroU32;

/// The limit, and how to tell clients apart.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many requests a client may make per `seconds`, on average.
    pub requests: NonZeroU32,
    /// The period for `requests`, in seconds.
    pub seconds: NonZeroU32,
    /// How many requests a client may make at once, after a pause.
    pub burst: NonZeroU32,
    /// How to tell clients apart.
    pub client: Client,
    /// The number of buckets. A hash spreads the clients over them; two clients with the same bucket share it.
    pub buckets: NonZeroU32,
    /// How often to log the number of rejected requests, in seconds; 0 for never.
    pub report_seconds: u16,
}

/// How to tell clients apart.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Not at all: all requests count together.
    All,
    /// By the client's address as the proxy sees it; for IPv6, by its first 64 bits.
    Address,
    /// By the value of this header; by address if it is missing.
    Header(String),
}

impl Default for Config {
    fn default() -> Self {
        let number = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self {
            requests: number(100),
            seconds: number(60),
            burst: number(100),
            client: Client::Address,
            buckets: number(10_000),
            report_seconds: 60,
        }
    }
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
        match &config.client {
            Client::Header(name) if !is_header_name(name) => Err(format!(
                "client.header: {name:?} isn't a header name in lower case"
            )),
            _ => Ok(config),
        }
    }
}

/// Whether it is a token (RFC 9110, 5.6.2) without capitals.
fn is_header_name(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::{Client, Config};

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
    fn clients_are_told_apart_in_three_ways() {
        for (text, client) in [
            (r#""all""#, Client::All),
            (r#""address""#, Client::Address),
            (r#"{"header": "x-key"}"#, Client::Header("x-key".into())),
        ] {
            let read = Config::parse(format!(r#"{{"client": {text}}}"#).as_bytes());
            assert_eq!(read.map(|config| config.client), Ok(client));
        }
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (text, expected) in [
            (r#"{"request": 1}"#, "unknown field `request`"),
            (r#"{"requests": 0}"#, "expected a nonzero u32"),
            (r#"{"buckets": 0}"#, "expected a nonzero u32"),
            (r#"{"seconds": -1}"#, "expected a nonzero u32"),
            (r#"{"client": "me"}"#, "unknown variant `me`"),
            (
                r#"{"client": {"header": "X-Key"}}"#,
                "\"X-Key\" isn't a header name",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
