//! The configuration: `scaffold build` derives `config.schema.json` and the README's table from it.

use serde::Deserialize;

/// Which requests go to which cluster.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The header by which the proxy's routes choose a cluster, in lower case; a client's own is removed.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9a-z-]+$"))
    )]
    pub header: String,
    /// The rules, of which the first that fits decides.
    pub rules: Vec<Rule>,
    /// The cluster of a request that no rule fits; empty to send it on without the header.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]*$")))]
    pub otherwise: String,
    /// How often each of the proxy's workers asks for newer rules, in seconds; 0 for never.
    pub refresh_seconds: u16,
    /// The cluster of the service that is asked, as the proxy calls it.
    pub refresh_cluster: String,
    /// The path there. The answer is a configuration, of which `rules` and `otherwise` count.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub refresh_path: String,
}

/// A cluster, and the requests that go there: those for which all of this holds.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the rule is called in the metrics.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9_]+$")))]
    pub name: String,
    /// The cluster that its requests go to.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[!-~]+$")))]
    pub cluster: String,
    /// What headers must be, `:path` and `:authority` among them, by their names in lower case.
    #[serde(default)]
    pub headers: Vec<Condition>,
    /// What the proxy's properties must be, by their paths with dots, such as `source.address`.
    #[serde(default)]
    pub properties: Vec<Condition>,
    /// How many of a hundred users the rule is for: each is always in or always out, and stays in when it grows.
    #[serde(default = "all")]
    #[cfg_attr(feature = "schema", schemars(range(max = 100)))]
    pub percent: u8,
    /// The header that tells users apart; who hasn't it is none of less than a hundred.
    #[serde(default)]
    pub user: String,
}

fn all() -> u8 {
    100
}

/// What a value must be; one that is missing fulfils nothing.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Of which header, or property.
    pub name: String,
    /// One of these; `x*` stands for whatever begins with x.
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
    /// Read the configuration; none at all stands for the defaults, by which the proxy's own routes decide.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !is_token(&config.header) {
            return Err(format!(
                "header: {:?} is no header's name in lower case",
                config.header
            ));
        }
        if !config.otherwise.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(format!(
                "otherwise: {:?} can't name a cluster",
                config.otherwise
            ));
        }
        if !config.refresh_path.starts_with('/') {
            return Err("refresh_path: it doesn't begin with a slash".into());
        }
        config.check()?;
        Ok(config)
    }

    /// Read a configuration whose `rules` and `otherwise` shall count from now on, and nothing else of it.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn renewed(&self, bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the answer is empty".into()); // which is no word on rules
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
                return Err(format!("rules: {name:?} can't name a metric"));
            }
            if cluster.is_empty() || !cluster.bytes().all(|c| c.is_ascii_graphic()) {
                return Err(format!("rules: {name}: {cluster:?} can't name a cluster"));
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
                        "rules: {name}: {header:?} is no header's name in lower case"
                    ));
                }
                if *header == self.header {
                    return Err(format!("rules: {name}: nobody's `{header}` is believed"));
                }
            }
            for Condition { name: path, .. } in &rule.properties {
                if !is_path(path) {
                    return Err(format!("rules: {name}: {path:?} is no property's path"));
                }
            }
        }
        Ok(())
    }
}

/// Whether it is a token of RFC 9110, 5.6.2, without capitals.
fn is_token(name: &str) -> bool {
    let fits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z') || b"!#$%&'*+.^_`|~-".contains(&c);
    !name.is_empty() && name.bytes().all(fits)
}

/// Whether it is words with dots between them.
fn is_path(path: &str) -> bool {
    let fits = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_graphic());
    path.split('.').all(fits)
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
            (r#"{"rule": []}"#, "unknown field `rule`"),
            (
                r#"{"header": ":path"}"#,
                "header: \":path\" is no header's name",
            ),
            (
                r#"{"otherwise": "a b"}"#,
                "otherwise: \"a b\" can't name a cluster",
            ),
            (r#"{"refresh_path": "x"}"#, "refresh_path: it doesn't begin"),
            (r#"{"refresh_seconds": 65536}"#, "expected u16"),
            ("nonsense", "expected ident at line 1"),
        ] {
            let error = Config::parse(given.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        for (given, said) in [
            (r#""name": "a""#, "missing field `cluster`"),
            (
                r#""name": "A", "cluster": "b""#,
                "\"A\" can't name a metric",
            ),
            (
                r#""name": "a", "cluster": """#,
                "a: \"\" can't name a cluster",
            ),
            (
                r#""name": "a", "cluster": "b", "headers": [{"name": "X", "values": []}]"#,
                "a: \"X\" is no header's name",
            ),
            (
                r#""name": "a", "cluster": "b", "headers": [{"name": "x-cluster", "values": ["b"]}]"#,
                "a: nobody's `x-cluster` is believed",
            ),
            (
                r#""name": "a", "cluster": "b", "properties": [{"name": "a..b", "values": []}]"#,
                "a: \"a..b\" is no property's path",
            ),
            (
                r#""name": "a", "cluster": "b", "properties": [{"name": "", "values": []}]"#,
                "a: \"\" is no property's path",
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
                "a: nobody's `x-cluster` is believed",
            ),
        ] {
            let config = format!(r#"{{"rules": [{{{given}}}]}}"#);
            let error = Config::parse(config.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
    #[test]
    fn what_is_newer_is_held_against_the_header_that_counts() {
        let config = Config {
            header: "x-where".into(),
            ..Config::default()
        };
        let newer = br#"{"rules": [{"name": "a", "cluster": "b",
            "headers": [{"name": "x-where", "values": []}]}]}"#;
        assert!(Config::parse(newer).is_ok());
        let error = config.renewed(newer).err().unwrap_or_default();
        assert!(error.contains("nobody's `x-where` is believed"), "{error}");
        assert!(config.renewed(b"").is_err());
    }
}
