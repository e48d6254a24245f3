//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// What to change in JSON bodies, and what to do with bodies that can't be changed.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to change in the bodies of requests.
    pub request: Rules,
    /// What to change in the bodies of responses.
    pub response: Rules,
    /// The replacement for a masked value.
    pub mask_with: String,
    /// The longest body that is changed, in bytes. By default, Envoy holds at most 1 MiB of a body, and aborts longer
    /// ones.
    pub max_bytes: NonZeroU32,
    /// What to do with a JSON body that can't be changed: too long, compressed, or not JSON after all.
    pub on_failure: OnFailure,
}

/// What to change in a body. A path is a JSON pointer (RFC 6901) in which `*` matches every member or item.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Paths of members and items to remove; this is done first.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/"))))]
    pub remove: Vec<String>,
    /// Paths of values to replace with `mask_with`.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/"))))]
    pub mask: Vec<String>,
    /// Paths and their new values; a missing member is added if its object exists.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"pattern": "^/"})))]
    pub set: BTreeMap<String, Value>,
}

/// What to do with a JSON body that can't be changed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// A request gets a 400, 413 or 415; a response becomes a 502, or is cut off if its headers have been sent.
    Block,
    /// It passes unchanged.
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
    /// Read the configuration; an empty one means the defaults, which change nothing.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
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
    fn an_empty_configuration_means_the_defaults() {
        assert_eq!(Config::parse(b""), Ok(Config::default()));
        assert_eq!(Config::parse(b"{}"), Ok(Config::default()));
    }

    #[test]
    fn the_default_file_is_valid() {
        assert_eq!(Config::parse(include_bytes!("../config.json")).err(), None);
    }

    #[test]
    fn a_field_changes_only_itself() {
        let config = Config::parse(br#"{"on_failure": "pass"}"#);
        let expected = Config {
            on_failure: OnFailure::Pass,
            ..Config::default()
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (text, expected) in [
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
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
