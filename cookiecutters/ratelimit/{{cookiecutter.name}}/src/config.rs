//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::num::NonZeroU32;

/// How often a client may come, and who a client is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many requests a client may make in `seconds`, in the long run.
    pub requests: NonZeroU32,
    /// The seconds in which a client may make that many.
    pub seconds: NonZeroU32,
    /// How many it may make at once, after a rest.
    pub burst: NonZeroU32,
    /// What tells clients apart.
    pub client: Client,
    /// How many buckets there are. Clients are spread over them by a hash; two that meet share one.
    pub buckets: NonZeroU32,
    /// How often the log says how many requests were too many, in seconds; 0 for never.
    pub report_seconds: u16,
}

/// What tells clients apart.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Nothing: all requests count as one client's.
    All,
    /// The address that the proxy takes for the client's; of IPv6 its first 64 bits.
    Address,
    /// The value of the header of this name; where it's missing, the address.
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
    /// Read the configuration; none at all stands for the defaults.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match &config.client {
            Client::Header(name) if !is_header_name(name) => Err(format!(
                "client.header: {name:?} is no header's name in lower case"
            )),
            _ => Ok(config),
        }
    }
}

/// Whether it is a token of RFC 9110, 5.6.2, without capitals.
fn is_header_name(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::{Client, Config};

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
    fn clients_are_told_apart_in_three_ways() {
        for (given, client) in [
            (r#""all""#, Client::All),
            (r#""address""#, Client::Address),
            (r#"{"header": "x-key"}"#, Client::Header("x-key".into())),
        ] {
            let read = Config::parse(format!(r#"{{"client": {given}}}"#).as_bytes());
            assert_eq!(read.map(|config| config.client), Ok(client));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, said) in [
            (r#"{"request": 1}"#, "unknown field `request`"),
            (r#"{"requests": 0}"#, "expected a nonzero u32"),
            (r#"{"buckets": 0}"#, "expected a nonzero u32"),
            (r#"{"seconds": -1}"#, "expected a nonzero u32"),
            (r#"{"client": "me"}"#, "unknown variant `me`"),
            (
                r#"{"client": {"header": "X-Key"}}"#,
                "\"X-Key\" is no header's name",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
