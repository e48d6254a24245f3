//! Which rule a request matches. Nothing here talks to the proxy: `cargo test` runs it natively.

use crate::config::{Condition, Rule};

/// What a rule needs to know about a request.
pub trait Request {
    /// The first value of a header.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// The proxy's property at the path made of these words.
    fn property(&self, path: Vec<&str>) -> Option<Vec<u8>>;
}

/// Whether the rule matches this request.
pub fn fits(rule: &Rule, request: &impl Request) -> bool {
    let header = |name: &str| request.header(name);
    let property = |path: &str| request.property(path.split('.').collect());
    all_hold(&rule.headers, header)
        && all_hold(&rule.properties, property)
        && (rule.percent >= 100 || header(&rule.user).is_some_and(|user| is_in(rule, &user)))
}

fn all_hold(conditions: &[Condition], value_of: impl Fn(&str) -> Option<Vec<u8>>) -> bool {
    conditions.iter().all(|Condition { name, values }| {
        let value = value_of(name);
        value.is_some_and(|value| values.iter().any(|pattern| matches(pattern, &value)))
    })
}

fn matches(pattern: &str, value: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start.as_bytes()),
        None => value == pattern.as_bytes(),
    }
}

/// Whether a user is in. The rule's name counts too, so that different rules select different users.
fn is_in(rule: &Rule, user: &[u8]) -> bool {
    hash(&[rule.name.as_bytes(), b"/", user].concat()) % 100 < rule.percent.into()
}

/// FNV-1a, 64 bits: it never changes, and other services can compute it in any language.
///
/// Source: draft-eastlake-fnv, section 2.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{fits, hash, Request};
    use crate::config::{Config, Rule};

    /// Headers and properties, by their names and paths.
    struct Given<'a>(&'a [(&'a str, &'a str)]);

    impl Request for Given<'_> {
        fn header(&self, name: &str) -> Option<Vec<u8>> {
            let found = self.0.iter().find(|(each, _)| *each == name);
            found.map(|(_, value)| value.as_bytes().to_vec())
        }

        fn property(&self, path: Vec<&str>) -> Option<Vec<u8>> {
            self.header(&path.join("."))
        }
    }

    fn rule(conditions: &str) -> Rule {
        let config = format!(r#"{{"rules": [{{"name": "new", "cluster": "beta"{conditions}}}]}}"#);
        let read = Config::parse(config.as_bytes());
        read.unwrap_or_default().rules.remove(0)
    }

    fn users_in(percent: u8, rule_name: &str) -> Vec<u32> {
        let mut rule = rule(&format!(r#", "percent": {percent}, "user": "x-user""#));
        rule.name = rule_name.into();
        let fitting = |user: &u32| fits(&rule, &Given(&[("x-user", &format!("user-{user}"))]));
        (0..10_000).filter(fitting).collect()
    }

    #[test]
    fn a_rule_without_conditions_matches_everything() {
        assert!(fits(&rule(""), &Given(&[])));
    }

    #[test]
    fn a_value_must_be_one_of_the_list() {
        for (values, value, expected) in [
            (r#"["a"]"#, "a", true),
            (r#"["a"]"#, "A", false),
            (r#"["a"]"#, "ab", false),
            (r#"["a"]"#, "", false),
            (r#"["a", "b"]"#, "b", true),
            (r#"[""]"#, "", true),
            ("[]", "", false),
            (r#"["/v2/*"]"#, "/v2/a", true),
            (r#"["/v2/*"]"#, "/v2", false),
            (r#"["*"]"#, "", true),
            (r#"["a*b"]"#, "a*b", true),
            (r#"["a*b"]"#, "axb", false),
        ] {
            let by_header = rule(&format!(
                r#", "headers": [{{"name": "x-a", "values": {values}}}]"#
            ));
            assert_eq!(
                fits(&by_header, &Given(&[("x-a", value)])),
                expected,
                "{values} {value}"
            );
            let by_property = rule(&format!(
                r#", "properties": [{{"name": "a.b", "values": {values}}}]"#
            ));
            assert_eq!(
                fits(&by_property, &Given(&[("a.b", value)])),
                expected,
                "{values} {value}"
            );
        }
    }

    #[test]
    fn a_missing_value_matches_nothing() {
        assert!(!fits(
            &rule(r#", "headers": [{"name": "x", "values": ["*"]}]"#),
            &Given(&[])
        ));
        assert!(!fits(
            &rule(r#", "properties": [{"name": "x", "values": ["*"]}]"#),
            &Given(&[])
        ));
        assert!(!fits(&rule(r#", "percent": 99, "user": "x""#), &Given(&[])));
        assert!(fits(&rule(r#", "percent": 100, "user": "x""#), &Given(&[])));
    }

    #[test]
    fn all_conditions_must_be_met() {
        let rule = rule(
            r#", "headers": [{"name": "x", "values": ["1"]}], "properties": [{"name": "y", "values": ["2"]}]"#,
        );
        assert!(fits(&rule, &Given(&[("x", "1"), ("y", "2")])));
        assert!(!fits(&rule, &Given(&[("x", "1")])));
        assert!(!fits(&rule, &Given(&[("y", "2")])));
    }

    #[test]
    fn about_that_many_users_are_in() {
        assert_eq!(users_in(0, "new").len(), 0);
        assert_eq!(users_in(100, "new").len(), 10_000);
        for percent in [1, 10, 50, 90] {
            let users = users_in(percent, "new").len();
            let expected = usize::from(percent) * 100;
            assert!(users.abs_diff(expected) < 200, "{percent} %: {users}");
        }
    }

    #[test]
    fn users_stay_in_when_the_percentage_grows() {
        let greater = users_in(20, "new");
        assert!(users_in(10, "new")
            .iter()
            .all(|user| greater.contains(user)));
    }

    #[test]
    fn different_rules_select_different_users() {
        let others = users_in(50, "other");
        let both = users_in(50, "new")
            .iter()
            .filter(|user| others.contains(user))
            .count();
        assert!((2000..3000).contains(&both), "{both}");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8); // draft-eastlake-fnv, appendix C
    }
}
