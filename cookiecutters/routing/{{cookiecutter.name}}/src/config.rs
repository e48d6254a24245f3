//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;

/// Which requests go to which cluster.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The header that the proxy's routes use to choose a cluster, in lower case; one that the client sends is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub header: String,
    /// The rules; the first one that matches decides.
    pub rules: Vec<Rule>,
    /// The cluster of requests that match no rule; empty to send them without the header.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]*$")))]
    pub otherwise: String,
    /// How often each worker of the proxy asks for newer rules, in seconds; 0 for never.
    pub refresh_seconds: u16,
    /// The cluster of the service with newer rules, in the proxy's configuration.
    pub refresh_cluster: String,
    /// The path to ask at. The response is a configuration, of which only `rules` and `otherwise` are used.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub refresh_path: String,
}

/// A cluster, and the requests that go there: those that meet all of these conditions.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The rule's name in the metrics.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9_]+$")))]
    pub name: String,
    /// The cluster that matching requests go to.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]+$")))]
    pub cluster: String,
    /// Conditions for headers, including `:path` and `:authority`, with names in lower case.
    #[serde(default)]
    pub headers: Vec<Condition>,
    /// Conditions for the proxy's properties, with dotted paths such as `source.address`.
    #[serde(default)]
    pub properties: Vec<Condition>,
    /// The percentage of users that the rule applies to; a user who is in stays in when it grows.
    #[serde(default = "all")]
    #[cfg_attr(feature = "schema", schemars(range(max = 100)))]
    pub percent: u8,
    /// The header that identifies users; without it, a request is out unless `percent` is 100.
    #[serde(default)]
    pub user: String,
}

fn all() -> u8 {
    100
}

/// A condition for a value; a missing value never meets it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The name of the header, or the path of the property.
    pub name: String,
    /// The allowed values; `x*` matches everything that starts with x.
    pub values: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: "x-cluster".into(),
            rules: vec![],
            otherwise: String::new(),
            refresh_seconds: 0,
            refresh_cluster: "rules".into(),
            refresh_path: "/rules".into(),
        }
    }
}

impl Config {
    /// Read the configuration; an empty one means the defaults: the proxy's own routes decide.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !is_token(&config.header) {
            return Err(format!(
                "header: {:?} isn't a header name in lower case",
                config.header
            ));
        }
        if !config.otherwise.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(format!(
                "otherwise: {:?} isn't a cluster name",
                config.otherwise
            ));
        }
        if !config.refresh_path.starts_with('/') {
            return Err("refresh_path: it doesn't start with a slash".into());
        }
        config.check()?;
        Ok(config)
    }

    /// Read a configuration of which only `rules` and `otherwise` are used.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn renewed(&self, bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the response is empty".into()); // it would remove all rules
        }
        let mut renewed = Self::parse(bytes)?;
        renewed.header.clone_from(&self.header);
        renewed.check()?;
        Ok(renewed)
    }

    fn check(&self) -> Result<(), String> {
        for rule in &self.rules {
            let Rule { name, cluster, .. } = rule;
            let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_');
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(format!("rules: {name:?} isn't a metric name"));
            }
            if cluster.is_empty() || !cluster.bytes().all(|c| c.is_ascii_graphic()) {
                return Err(format!("rules: {name}: {cluster:?} isn't a cluster name"));
            }
            if rule.percent > 100 {
                return Err(format!("rules: {name}: {} percent", rule.percent));
            }
            let user = Some(&rule.user).filter(|user| !user.is_empty());
            if user.is_none() && rule.percent < 100 {
                return Err(format!("rules: {name}: `user` must name a header"));
            }
            for header in rule
                .headers
                .iter()
                .map(|condition| &condition.name)
                .chain(user)
            {
                if !is_token(header.strip_prefix(':').unwrap_or(header)) {
                    return Err(format!(
                        "rules: {name}: {header:?} isn't a header name in lower case"
                    ));
                }
                if *header == self.header {
                    return Err(format!("rules: {name}: `{header}` can't be a condition"));
                }
            }
            for Condition { name: path, .. } in &rule.properties {
                if !is_path(path) {
                    return Err(format!("rules: {name}: {path:?} isn't a property path"));
                }
            }
        }
        Ok(())
    }
}

/// Whether it is a token (RFC 9110, 5.6.2) without capitals.
fn is_token(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
}

/// Whether it consists of words with dots between them.
fn is_path(path: &str) -> bool {
    let fits = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_graphic());
    path.split('.').all(fits)
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
            (r#"{"rule": []}"#, "unknown field `rule`"),
            (
                r#"{"header": ":path"}"#,
                "header: \":path\" isn't a header name",
            ),
            (
                r#"{"otherwise": "a b"}"#,
                "otherwise: \"a b\" isn't a cluster name",
            ),
            (r#"{"refresh_path": "x"}"#, "refresh_path: it doesn't start"),
            (r#"{"refresh_seconds": 65536}"#, "expected u16"),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_with_a_rule() {
        for (text, expected) in [
            (r#""name": "a""#, "missing field `cluster`"),
            (
                r#""name": "A", "cluster": "b""#,
                "\"A\" isn't a metric name",
            ),
            (
                r#""name": "a", "cluster": """#,
                "a: \"\" isn't a cluster name",
            ),
            (
                r#""name": "a", "cluster": "b", "headers": [{"name": "X", "values": []}]"#,
                "a: \"X\" isn't a header name",
            ),
            (
                r#""name": "a", "cluster": "b", "headers": [{"name": "x-cluster", "values": ["b"]}]"#,
                "a: `x-cluster` can't be a condition",
            ),
            (
                r#""name": "a", "cluster": "b", "properties": [{"name": "a..b", "values": []}]"#,
                "a: \"a..b\" isn't a property path",
            ),
            (
                r#""name": "a", "cluster": "b", "properties": [{"name": "", "values": []}]"#,
                "a: \"\" isn't a property path",
            ),
            (
                r#""name": "a", "cluster": "b", "percent": 101"#,
                "a: 101 percent",
            ),
            (
                r#""name": "a", "cluster": "b", "percent": 99"#,
                "a: `user` must name a header",
            ),
            (
                r#""name": "a", "cluster": "b", "percent": 1, "user": "x-cluster""#,
                "a: `x-cluster` can't be a condition",
            ),
        ] {
            let config = format!(r#"{{"rules": [{{{text}}}]}}"#);
            let error = Config::parse(config.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
    #[test]
    fn newer_rules_are_checked_against_the_present_header() {
        let config = Config {
            header: "x-where".into(),
            ..Config::default()
        };
        let newer = br#"{"rules": [{"name": "a", "cluster": "b",
            "headers": [{"name": "x-where", "values": []}]}]}"#;
        assert!(Config::parse(newer).is_ok());
        let error = config.renewed(newer).err().unwrap_or_default();
        assert!(error.contains("`x-where` can't be a condition"), "{error}");
        assert!(config.renewed(b"").is_err());
    }
}
