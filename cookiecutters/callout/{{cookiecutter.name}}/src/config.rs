//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::num::NonZeroU32;

/// Whom to ask about a request, what to tell, and what to make of the answer.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The authorization service's cluster, as the proxy calls it.
    pub cluster: String,
    /// The `host` that the service is asked under.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]+$")))]
    pub authority: String,
    /// The path that the service is asked at.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/[!-~]*$")))]
    pub path: String,
    /// How long the service may take, in milliseconds.
    pub timeout_ms: NonZeroU32,
    /// What becomes of a request when the service gives no verdict.
    pub on_failure: OnFailure,
    /// Headers of the request that the service is shown, in lower case.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub request_headers: Vec<String>,
    /// Headers of an allowing answer that the upstream is given; a client's own are removed.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub upstream_headers: Vec<String>,
    /// Headers of a refusing answer that the client is given, with its body.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub refusal_headers: Vec<String>,
}

/// What becomes of a request when the service gives no verdict.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is answered with 503.
    Deny,
    /// It goes on, as if it had been allowed.
    Allow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "authz".into(),
            authority: "authz".into(),
            path: "/check".into(),
            timeout_ms: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            on_failure: OnFailure::Deny,
            request_headers: vec!["authorization".into(), "cookie".into()],
            upstream_headers: vec!["x-user".into()],
            refusal_headers: vec!["content-type".into(), "www-authenticate".into()],
        }
    }
}

/// Header names that would change how the call, the request or the answer is framed.
const FRAMING: [&str; 5] = [
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "upgrade",
];

/// Headers in which the service is told of the request; a client's own are not shown beside them.
const TOLD: [&str; 3] = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"];

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
        if !config.path.starts_with('/') || !is_visible(&config.path) {
            let path = &config.path;
            return Err(format!(
                "path: {path:?} is no path of visible ASCII from a slash on"
            ));
        }
        if !is_visible(&config.authority) {
            return Err(format!("authority: {:?} is no host", config.authority));
        }
        for (field, names) in [
            ("request_headers", &config.request_headers),
            ("upstream_headers", &config.upstream_headers),
            ("refusal_headers", &config.refusal_headers),
        ] {
            if let Some(name) = names.iter().find(|name| !is_header_name(name)) {
                return Err(format!(
                    "{field}: {name:?} is no header's name in lower case"
                ));
            }
            if let Some(name) = names.iter().find(|name| FRAMING.contains(&name.as_str())) {
                return Err(format!(
                    "{field}: {name:?} isn't passed on, the proxy sets it"
                ));
            }
        }
        let told = |name: &&String| TOLD.contains(&name.as_str());
        if let Some(name) = config.request_headers.iter().find(told) {
            return Err(format!(
                "request_headers: {name:?} is what the service is told in it, not a client's"
            ));
        }
        Ok(config)
    }
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether it is a token of RFC 9110, 5.6.2, without capitals.
fn is_header_name(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
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
        let config = Config::parse(br#"{"on_failure": "allow"}"#);
        let expected = Config {
            on_failure: OnFailure::Allow,
            ..Config::default()
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, said) in [
            (r#"{"clutser": "a"}"#, "unknown field `clutser`"),
            (r#"{"timeout_ms": 0}"#, "expected a nonzero u32"),
            (r#"{"on_failure": "shrug"}"#, "unknown variant `shrug`"),
            (r#"{"path": "check"}"#, "path: \"check\" is no path"),
            (r#"{"path": "/a b"}"#, "path: \"/a b\" is no path"),
            (r#"{"authority": ""}"#, "authority: \"\" is no host"),
            (
                r#"{"request_headers": [":path"]}"#,
                "request_headers: \":path\" is no header's name",
            ),
            (
                r#"{"request_headers": ["x-forwarded-host"]}"#,
                "request_headers: \"x-forwarded-host\" is what the service is told",
            ),
            (
                r#"{"upstream_headers": ["X-User"]}"#,
                "upstream_headers: \"X-User\" is no header's name",
            ),
            (
                r#"{"refusal_headers": ["content-length"]}"#,
                "\"content-length\" isn't passed on",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
