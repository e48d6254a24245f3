//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::num::NonZeroU32;

/// Which service to ask about a session, and how to tell the upstream the result.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The identity service's cluster in the proxy's configuration; it uses HTTP/2.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 125)))]
    pub cluster: String,
    /// Timeout of the call to the service, in milliseconds.
    pub timeout_ms: NonZeroU32,
    /// What to do with a request if the service doesn't say whose it is.
    pub on_failure: OnFailure,
    /// The header that contains a client's session, in lower case; it isn't passed to the upstream.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub session_header: String,
    /// The header that tells the upstream the user; one that the client sends is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub user_header: String,
    /// The header that tells the upstream the user's groups, separated by commas; one that the client sends is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub groups_header: String,
}

/// What to do with a request if the service doesn't say whose it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It gets a 503.
    Deny,
    /// It passes without a user.
    Allow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "identity".into(),
            timeout_ms: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            on_failure: OnFailure::Deny,
            session_header: "x-session".into(),
            user_header: "x-user".into(),
            groups_header: "x-groups".into(),
        }
    }
}

/// The longest name of a cluster that the SDK can hand to Envoy, in bytes.
const LONGEST_NAME: usize = 125;

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
        if config.cluster.is_empty() || config.cluster.len() > LONGEST_NAME {
            return Err(format!(
                "cluster: the name must have 1 to {LONGEST_NAME} bytes"
            ));
        }
        for (field, name) in [
            ("session_header", &config.session_header),
            ("user_header", &config.user_header),
            ("groups_header", &config.groups_header),
        ] {
            if !is_header_name(name) {
                return Err(format!(
                    "{field}: {name:?} isn't a header name in lower case"
                ));
            }
        }
        if config.user_header == config.groups_header {
            return Err("groups_header: this header contains the user".into());
        }
        Ok(config)
    }
}

/// Whether it is a token (RFC 9110, 5.6.2) without capitals.
fn is_header_name(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
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
        let config = Config::parse(br#"{"on_failure": "allow"}"#);
        let expected = Config {
            on_failure: OnFailure::Allow,
            ..Config::default()
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let long = format!(r#"{{"cluster": "{}"}}"#, "x".repeat(126));
        for (text, expected) in [
            (r#"{"clutser": "a"}"#, "unknown field `clutser`"),
            (
                r#"{"cluster": ""}"#,
                "cluster: the name must have 1 to 125 bytes",
            ),
            (&long, "cluster: the name must have 1 to 125 bytes"),
            (r#"{"timeout_ms": 0}"#, "expected a nonzero u32"),
            (r#"{"on_failure": "shrug"}"#, "unknown variant `shrug`"),
            (
                r#"{"user_header": "X-User"}"#,
                "user_header: \"X-User\" isn't a header name",
            ),
            (
                r#"{"groups_header": "x-user"}"#,
                "groups_header: this header contains the user",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
