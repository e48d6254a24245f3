//! Which bodies to edit, and how. Nothing here talks to the proxy: `cargo test` runs it natively.

use crate::config::Rules;
use serde_json::Value;
use std::fmt;

/// Why a JSON body can't be edited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// It is compressed or otherwise encoded.
    Encoded,
    /// It is longer than the configuration allows.
    TooLong,
    /// Its type is JSON, but its content isn't.
    NotJson,
    /// The proxy doesn't allow changing it.
    Fixed,
}

impl Failure {
    /// The status of the response to such a request.
    pub fn status(self) -> u32 {
        match self {
            Self::NotJson => 400,
            Self::TooLong => 413,
            Self::Encoded => 415,
            Self::Fixed => 500,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoded => "its content-encoding isn't supported",
            Self::TooLong => "it is too long",
            Self::NotJson => "it isn't JSON",
            Self::Fixed => "the proxy doesn't allow changing it",
        })
    }
}

/// Whether a body with these headers is JSON that should be edited.
///
/// # Errors
/// If it should, but the headers already show that it can't be.
pub fn wanted(
    content_type: &[u8],
    content_encoding: &[u8],
    content_length: &[u8],
    max_bytes: usize,
) -> Result<bool, Failure> {
    if !is_json(content_type) {
        return Ok(false);
    }
    if !matches!(content_encoding, b"" | b"identity") {
        return Err(Failure::Encoded);
    }
    let length = std::str::from_utf8(content_length).ok();
    match length.and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(length) if length > max_bytes as u64 => Err(Failure::TooLong),
        _ => Ok(true),
    }
}

/// `application/json`, `application/problem+json` and similar types, with or without parameters.
///
/// The proxy joins repeated headers with commas, and the other side may believe any of the values.
fn is_json(content_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split(',').any(|each| {
        let essence = each.split(';').next().unwrap_or_default().trim();
        let subtype = essence.strip_prefix("application/").unwrap_or_default();
        subtype == "json" || subtype.ends_with("+json")
    })
}

/// The rules for a body, with parsed paths.
#[derive(Debug, Default)]
pub struct Rewrite {
    remove: Vec<Path>,
    mask: Vec<Path>,
    mask_with: Value,
    set: Vec<(Path, Value)>,
}

/// The path of the containers, and the name of the value in them.
#[derive(Debug)]
struct Path {
    parents: Vec<String>,
    last: String,
}

impl Path {
    fn parse(pointer: &str) -> Self {
        let unescaped = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
        let mut parents: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
        let last = parents.pop().unwrap_or_default();
        Self { parents, last }
    }

    fn holders<'a>(&self, document: &'a mut Value) -> Vec<&'a mut Value> {
        let mut found = vec![document];
        for segment in &self.parents {
            found = found
                .into_iter()
                .flat_map(|each| children(each, segment))
                .collect();
        }
        found
    }
}

fn children<'a>(value: &'a mut Value, segment: &str) -> Vec<&'a mut Value> {
    match (value, segment) {
        (Value::Object(members), "*") => members.values_mut().collect(),
        (Value::Object(members), name) => members.get_mut(name).into_iter().collect(),
        (Value::Array(items), "*") => items.iter_mut().collect(),
        (Value::Array(items), place) => {
            let place = place.parse::<usize>().ok();
            place
                .and_then(|place| items.get_mut(place))
                .into_iter()
                .collect()
        }
        _ => vec![],
    }
}

impl Rewrite {
    /// The rules of the configuration.
    pub fn new(rules: &Rules, mask_with: &str) -> Self {
        let paths = |pointers: &[String]| pointers.iter().map(|each| Path::parse(each)).collect();
        let set = rules.set.iter();
        Self {
            remove: paths(&rules.remove),
            mask: paths(&rules.mask),
            mask_with: Value::String(mask_with.to_string()),
            set: set
                .map(|(each, value)| (Path::parse(each), value.clone()))
                .collect(),
        }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.mask.is_empty() && self.set.is_empty()
    }

    /// The edited body.
    ///
    /// It is always serialised again, so that nothing slips past the rules: of several members with the same
    /// name, the last one counts. Numbers keep their digits, and members their order.
    ///
    /// # Errors
    /// If it isn't JSON, or is nested too deeply.
    pub fn apply(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut document: Value = serde_json::from_slice(body).map_err(|_| Failure::NotJson)?;
        for path in &self.remove {
            for holder in path.holders(&mut document) {
                remove(holder, &path.last);
            }
        }
        for path in &self.mask {
            for holder in path.holders(&mut document) {
                for value in children(holder, &path.last) {
                    value.clone_from(&self.mask_with);
                }
            }
        }
        for (path, wanted) in &self.set {
            for holder in path.holders(&mut document) {
                set(holder, &path.last, wanted);
            }
        }
        serde_json::to_vec(&document).map_err(|_| Failure::NotJson)
    }
}

fn remove(holder: &mut Value, segment: &str) {
    match (holder, segment) {
        (Value::Object(members), "*") => members.clear(),
        (Value::Object(members), name) => {
            members.shift_remove(name);
        }
        (Value::Array(items), "*") => items.clear(),
        (Value::Array(items), place) => {
            if let Some(place) = place.parse().ok().filter(|place| *place < items.len()) {
                items.remove(place);
            }
        }
        _ => {}
    }
}

fn set(holder: &mut Value, segment: &str, wanted: &Value) {
    match holder {
        Value::Object(members) if segment != "*" => {
            members.insert(segment.to_string(), wanted.clone());
        }
        holder => {
            for value in children(holder, segment) {
                value.clone_from(wanted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_json, wanted, Failure, Rewrite};
    use crate::config::Rules;

    /// The result of applying rules, given as JSON, to a body; or why it fails.
    fn applied(rules: &str, body: &str) -> String {
        let rules: Rules = serde_json::from_str(rules).unwrap_or_default();
        match Rewrite::new(&rules, "***").apply(body.as_bytes()) {
            Ok(body) => String::from_utf8(body).unwrap_or_default(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn json_is_recognised_by_its_type() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
            " application/json ;q",
            "text/plain,application/json",
            "application/json; charset=utf-8, text/plain",
        ] {
            assert!(is_json(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "text/plain",
            "application/jsonl",
            "text/x+json",
            "application/x-ndjson",
            "\u{ff}",
        ] {
            assert!(!is_json(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn headers_show_which_bodies_can_not_be_edited() {
        let json = b"application/json";
        assert_eq!(wanted(b"text/html", b"gzip", b"9999", 10), Ok(false));
        assert_eq!(wanted(json, b"", b"", 10), Ok(true));
        assert_eq!(wanted(json, b"identity", b"10", 10), Ok(true));
        assert_eq!(wanted(json, b"gzip", b"1", 10), Err(Failure::Encoded));
        assert_eq!(wanted(json, b"", b"11", 10), Err(Failure::TooLong));
        assert_eq!(wanted(json, b"", b"nonsense", 10), Ok(true));
    }

    #[test]
    fn members_and_items_are_removed() {
        let removed = |paths: &str, body| applied(&format!(r#"{{"remove": {paths}}}"#), body);
        assert_eq!(
            removed(r#"["/b"]"#, r#"{"a":1,"b":2,"c":3}"#),
            r#"{"a":1,"c":3}"#
        );
        assert_eq!(removed(r#"["/a/b"]"#, r#"{"a":{"b":{}}}"#), r#"{"a":{}}"#);
        assert_eq!(
            removed(r#"["/*/b"]"#, r#"[{"b":1},{"b":2,"c":3},4]"#),
            r#"[{},{"c":3},4]"#
        );
        assert_eq!(removed(r#"["/1"]"#, "[1,2,3]"), "[1,3]");
        assert_eq!(removed(r#"["/*"]"#, r#"{"a":1}"#), "{}");
        assert_eq!(removed(r#"["/~1~01"]"#, r#"{"/~1":1}"#), "{}");
        assert_eq!(removed(r#"["/"]"#, r#"{"":1}"#), "{}");
    }

    #[test]
    fn values_are_masked() {
        let masked = |paths: &str, body| applied(&format!(r#"{{"mask": {paths}}}"#), body);
        assert_eq!(masked(r#"["/a"]"#, r#"{"a":{"b":1}}"#), r#"{"a":"***"}"#);
        assert_eq!(
            masked(r#"["/*/e"]"#, r#"[{"e":1},{"f":2}]"#),
            r#"[{"e":"***"},{"f":2}]"#
        );
        assert_eq!(
            masked(r#"["/*/*"]"#, r#"{"a":[1,2]}"#),
            r#"{"a":["***","***"]}"#
        );
        assert_eq!(masked(r#"["/a/b"]"#, r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn values_are_set() {
        let set = |pairs: &str, body| applied(&format!(r#"{{"set": {pairs}}}"#), body);
        assert_eq!(set(r#"{"/a": [null]}"#, "{}"), r#"{"a":[null]}"#);
        assert_eq!(set(r#"{"/a": 2}"#, r#"{"a":1,"b":1}"#), r#"{"a":2,"b":1}"#);
        assert_eq!(set(r#"{"/a/b": 2}"#, "{}"), "{}");
        assert_eq!(
            set(r#"{"/*/b": 2}"#, r#"[{},{"b":1},3]"#),
            r#"[{"b":2},{"b":2},3]"#
        );
        assert_eq!(set(r#"{"/0": 2}"#, "[1]"), "[2]");
        assert_eq!(set(r#"{"/1": 2}"#, "[1]"), "[1]");
    }

    #[test]
    fn everything_else_keeps_its_digits_and_its_order() {
        let rules = r#"{"remove": ["/x"]}"#;
        let body = r#"{"z":1.0,"a":12345678901234567890123,"x":0,"e":1e+400,"é":"\u00e9"}"#;
        let expected = r#"{"z":1.0,"a":12345678901234567890123,"e":1e+400,"é":"é"}"#;
        assert_eq!(applied(rules, body), expected);
        assert_eq!(applied(rules, " \"text\""), "\"text\"");
    }

    #[test]
    fn a_duplicate_name_hides_nothing() {
        let body = r#"{"a":{"b":"secret"},"a":{}}"#;
        assert_eq!(applied(r#"{"mask": ["/a/b"]}"#, body), r#"{"a":{}}"#);
    }

    #[test]
    fn invalid_json_is_an_error() {
        for body in ["", "{", "{} {}", "{\"a\":NaN}", &"[".repeat(100_000)] {
            assert_eq!(applied("{}", body), "it isn't JSON");
        }
    }
}
