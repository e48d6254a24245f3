//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// What is rewritten in JSON bodies, and what becomes of those that can't be.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is rewritten in the bodies of requests.
    pub request: Rules,
    /// What is rewritten in the bodies of responses.
    pub response: Rules,
    /// What stands in the place of a masked value.
    pub mask_with: String,
    /// The longest body that is rewritten, in bytes. Envoy holds 1 MiB of one, unless it is told otherwise, and ends
    /// what is longer.
    pub max_bytes: NonZeroU32,
    /// What becomes of a JSON body that can't be rewritten: too long, compressed, or no JSON after all.
    pub on_failure: OnFailure,
}

/// What is rewritten in a body. A path is a JSON pointer (RFC 6901), in which `*` stands for every member or item.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Paths of members and items that are taken out, first of all.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/"))))]
    pub remove: Vec<String>,
    /// Paths of values in whose place `mask_with` is put.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/"))))]
    pub mask: Vec<String>,
    /// Paths and the values that are put there; a member that isn't there is added to an object that is.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"pattern": "^/"})))]
    pub set: BTreeMap<String, Value>,
}

/// What becomes of a JSON body that can't be rewritten.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// A request is answered with 400, 413 or 415, a response becomes 502, or ends where its headers are out already.
    Block,
    /// It goes on as it is.
    Pass,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request: Rules::default(),
            response: Rules::default(),
            mask_with: "***".into(),
            max_bytes: NonZeroU32::new(500_000).unwrap_or(NonZeroU32::MIN),
            on_failure: OnFailure::Block,
        }
    }
}

impl Config {
    /// Read the configuration; none at all stands for the defaults, which rewrite nothing.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for (side, rules) in [("request", &config.request), ("response", &config.response)] {
            let mut paths = rules
                .remove
                .iter()
                .chain(&rules.mask)
                .chain(rules.set.keys());
            if let Some(path) = paths.find(|path| !path.starts_with('/')) {
                return Err(format!(
                    "{side}: the path {path:?} doesn't begin with a slash"
                ));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, OnFailure};

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
    fn a_field_changes_that_field_alone() {
        let config = Config::parse(br#"{"on_failure": "pass"}"#);
        let expected = Config {
            on_failure: OnFailure::Pass,
            ..Config::default()
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, said) in [
            (r#"{"requests": {}}"#, "unknown field `requests`"),
            (r#"{"response": {"delete": []}}"#, "unknown field `delete`"),
            (r#"{"max_bytes": 0}"#, "expected a nonzero u32"),
            (r#"{"on_failure": "shrug"}"#, "unknown variant `shrug`"),
            (
                r#"{"request": {"remove": ["a"]}}"#,
                "request: the path \"a\" doesn't begin with a slash",
            ),
            (
                r#"{"response": {"set": {"a": 1}}}"#,
                "response: the path \"a\" doesn't begin with a slash",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
