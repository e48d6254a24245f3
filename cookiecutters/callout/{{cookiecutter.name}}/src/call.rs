//! The call to the authorization service, and what its response means. Nothing here talks to the proxy:
//! `cargo test` runs it natively.

use crate::config::Config;
use std::fmt;

/// Header fields as the proxy passes them: names in lower case, values of any bytes.
pub type Fields = [(String, Vec<u8>)];

/// A header that Envoy adds to a service's responses, but not to its own.
const ANSWERED: &str = "x-envoy-upstream-service-time";

/// The header fields of the call about a request.
///
/// None if one of them isn't UTF-8: nothing may pass that the service can't see.
pub fn question<'a>(config: &'a Config, request: &'a Fields) -> Option<Vec<(&'a str, &'a str)>> {
    let mut asked = vec![
        (":method", "GET"),
        (":path", config.path.as_str()),
        (":authority", config.authority.as_str()),
    ];
    for (name, value) in request {
        let shown = match name.as_str() {
            ":method" => "x-forwarded-method",
            ":path" => "x-forwarded-uri",
            ":authority" => "x-forwarded-host",
            name if config.request_headers.iter().any(|each| each == name) => name,
            _ => continue,
        };
        asked.push((shown, std::str::from_utf8(value).ok()?));
    }
    Some(asked)
}

/// Whether an upstream could confuse two header names, as CGI does: it treats `x_user` and `x-user` alike.
/// Both must be in lower case.
pub fn is_confused_with(sent: &str, meant: &str) -> bool {
    let alike =
        |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    sent.len() == meant.len() && sent.bytes().zip(meant.bytes()).all(alike)
}

/// The fields of a response to pass on, according to the configuration.
pub fn chosen<'a>(names: &[String], answer: &'a Fields) -> Vec<(&'a str, &'a [u8])> {
    let passed = answer.iter().filter(|(name, _)| names.contains(name));
    passed
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect()
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The service allows it.
    Allowed,
    /// The service denies it, with 401 or 403.
    Refused(u32),
    /// There is no verdict.
    Failed(Failure),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// The proxy has no such cluster, or the cluster has no host.
    NotSent,
    /// The call timed out.
    TimedOut,
    /// No connection to the service, or no HTTP on it; with the proxy's status.
    Unreachable(u32),
    /// The connection broke during the response.
    Reset,
    /// The service responded with this status, which is neither yes nor no.
    Service(u32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("the proxy cannot send the call: does the cluster exist?"),
            Self::TimedOut => f.write_str("the call timed out"),
            Self::Unreachable(status) => {
                write!(f, "the service is unreachable: the proxy says {status}")
            }
            Self::Reset => f.write_str("the connection to the service broke"),
            Self::Service(status) => {
                write!(
                    f,
                    "the service responded with {status}, which is neither yes nor no"
                )
            }
        }
    }
}

impl Verdict {
    /// What the header fields of a response mean.
    ///
    /// If there is no response, Envoy makes one: 504 after a timeout, 503 without a connection, 502 if the
    /// service doesn't speak HTTP, and one without any fields if the connection broke later.
    pub fn of(answer: &Fields) -> Self {
        let find = |wanted: &str| answer.iter().find(|(name, _)| name == wanted);
        let Some((_, status)) = find(":status") else {
            return Self::Failed(Failure::Reset);
        };
        let status = std::str::from_utf8(status).ok();
        let status = status
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        match (status, find(ANSWERED).is_some()) {
            (200..=299, _) => Self::Allowed,
            (401 | 403, _) => Self::Refused(status),
            (504, false) => Self::Failed(Failure::TimedOut),
            (500.., false) => Self::Failed(Failure::Unreachable(status)),
            _ => Self::Failed(Failure::Service(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{chosen, is_confused_with, question, Failure, Verdict};
    use crate::config::Config;

    fn fields(pairs: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        let owned = |(name, value): &(&str, &[u8])| ((*name).to_string(), value.to_vec());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_service_gets_what_is_configured() {
        let config = Config::default();
        let request = fields(&[
            (":authority", b"shop"),
            (":path", b"/cart?a=b"),
            (":method", b"POST"),
            ("authorization", b"Bearer one"),
            ("x-private", b"no"),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
        ]);
        let expected = vec![
            (":method", "GET"),
            (":path", "/check"),
            (":authority", "authz"),
            ("x-forwarded-host", "shop"),
            ("x-forwarded-uri", "/cart?a=b"),
            ("x-forwarded-method", "POST"),
            ("authorization", "Bearer one"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        assert_eq!(question(&config, &request), Some(expected));
    }

    #[test]
    fn what_is_not_utf8_can_not_be_shown() {
        let config = Config::default();
        assert_eq!(
            question(&config, &fields(&[("authorization", b"\xff")])),
            None
        );
        assert_eq!(question(&config, &fields(&[(":path", b"/\xff")])), None);
        assert!(question(&config, &fields(&[("x-private", b"\xff")])).is_some());
    }

    #[test]
    fn names_that_differ_only_in_punctuation_are_confused() {
        for sent in ["x-user", "x_user", "x.user"] {
            assert!(is_confused_with(sent, "x-user"), "{sent}");
            assert!(is_confused_with("x-user", sent), "{sent}");
        }
        for sent in ["", "x-use", "x-users", "xauser", "x--user"] {
            assert!(!is_confused_with(sent, "x-user"), "{sent}");
        }
    }

    #[test]
    fn every_response_has_a_meaning() {
        let served = ("x-envoy-upstream-service-time", b"1".as_slice());
        let plain = ("content-type", b"text/plain".as_slice());
        for (status, other, meaning) in [
            (b"200", served, Verdict::Allowed),
            (b"204", served, Verdict::Allowed),
            (b"401", served, Verdict::Refused(401)),
            (b"403", served, Verdict::Refused(403)),
            (b"302", served, Verdict::Failed(Failure::Service(302))),
            (b"404", served, Verdict::Failed(Failure::Service(404))),
            (b"503", served, Verdict::Failed(Failure::Service(503))),
            (b"504", served, Verdict::Failed(Failure::Service(504))),
            (b"502", plain, Verdict::Failed(Failure::Unreachable(502))),
            (b"503", plain, Verdict::Failed(Failure::Unreachable(503))),
            (b"504", plain, Verdict::Failed(Failure::TimedOut)),
            (b"\xff00", served, Verdict::Failed(Failure::Service(0))),
        ] {
            assert_eq!(Verdict::of(&fields(&[(":status", status), other])), meaning);
        }
        assert_eq!(Verdict::of(&[]), Verdict::Failed(Failure::Reset));
    }

    #[test]
    fn all_values_of_the_chosen_fields_are_passed_on() {
        let answer = fields(&[
            ("set-cookie", b"a"),
            ("server", b"x"),
            ("set-cookie", b"\xff"),
        ]);
        let passed = chosen(&["set-cookie".to_string()], &answer);
        let expected: Vec<(&str, &[u8])> = vec![("set-cookie", b"a"), ("set-cookie", b"\xff")];
        assert_eq!(passed, expected);
    }
}
