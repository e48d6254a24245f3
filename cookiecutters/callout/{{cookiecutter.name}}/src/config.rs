//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;
use std::num::NonZeroU32;

/// Which service to ask about a request, what to send, and how to use the response.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The authorization service's cluster in the proxy's configuration.
    pub cluster: String,
    /// The `host` of the call to the service.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]+$")))]
    pub authority: String,
    /// The path of the call to the service.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/[!-~]*$")))]
    pub path: String,
    /// Timeout of the call to the service, in milliseconds.
    pub timeout_ms: NonZeroU32,
    /// What to do with a request if the service gives no verdict.
    pub on_failure: OnFailure,
    /// Headers of the request to send to the service, in lower case.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub request_headers: Vec<String>,
    /// Headers of a positive response to pass to the upstream; those that the client sends are removed.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub upstream_headers: Vec<String>,
    /// Headers of a negative response to send to the client, together with its body.
    #[cfg_attr(
        feature = "schema",
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$")))
    )]
    pub refusal_headers: Vec<String>,
}

/// What to do with a request if the service gives no verdict.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It gets a 503.
    Deny,
    /// It passes, as if the service had allowed it.
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

/// Header names that would change how a call, a request or a response is framed.
const FRAMING: [&str; 5] = [
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "upgrade",
];

/// Headers that describe the request to the service; those that a client sends aren't passed on.
const TOLD: [&str; 3] = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"];

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
        if !config.path.starts_with('/') || !is_visible(&config.path) {
            let path = &config.path;
            return Err(format!(
                "path: {path:?} isn't a path of visible ASCII that starts with a slash"
            ));
        }
        if !is_visible(&config.authority) {
            return Err(format!("authority: {:?} isn't a host", config.authority));
        }
        for (field, names) in [
            ("request_headers", &config.request_headers),
            ("upstream_headers", &config.upstream_headers),
            ("refusal_headers", &config.refusal_headers),
        ] {
            if let Some(name) = names.iter().find(|name| !is_header_name(name)) {
                return Err(format!(
                    "{field}: {name:?} isn't a header name in lower case"
                ));
            }
            if let Some(name) = names.iter().find(|name| FRAMING.contains(&name.as_str())) {
                return Err(format!(
                    "{field}: {name:?} can't be passed on, the proxy sets it"
                ));
            }
        }
        let told = |name: &&String| TOLD.contains(&name.as_str());
        if let Some(name) = config.request_headers.iter().find(told) {
            return Err(format!(
                "request_headers: {name:?} describes the request, so a client's can't be passed on"
            ));
        }
        Ok(config)
    }
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
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
        for (text, expected) in [
            (r#"{"clutser": "a"}"#, "unknown field `clutser`"),
            (r#"{"timeout_ms": 0}"#, "expected a nonzero u32"),
            (r#"{"on_failure": "shrug"}"#, "unknown variant `shrug`"),
            (r#"{"path": "check"}"#, "path: \"check\" isn't a path"),
            (r#"{"path": "/a b"}"#, "path: \"/a b\" isn't a path"),
            (r#"{"authority": ""}"#, "authority: \"\" isn't a host"),
            (
                r#"{"request_headers": [":path"]}"#,
                "request_headers: \":path\" isn't a header name",
            ),
            (
                r#"{"request_headers": ["x-forwarded-host"]}"#,
                "request_headers: \"x-forwarded-host\" describes the request",
            ),
            (
                r#"{"upstream_headers": ["X-User"]}"#,
                "upstream_headers: \"X-User\" isn't a header name",
            ),
            (
                r#"{"refusal_headers": ["content-length"]}"#,
                "\"content-length\" can't be passed on",
            ),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
