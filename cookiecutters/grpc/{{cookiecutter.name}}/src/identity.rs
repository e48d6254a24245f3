//! The identity service that `proto/identity.proto` describes, and what its responses mean. Nothing here
//! talks to the proxy: `cargo test` runs it natively.

use prost::Message;
use std::fmt;

/// The name of the service.
pub const SERVICE: &str = "identity.v1.Identity";
/// The method that is called.
pub const METHOD: &str = "Lookup";

/// The request message.
#[derive(Clone, PartialEq, Message)]
pub struct LookupRequest {
    /// The session, as the client sent it.
    #[prost(string, tag = "1")]
    pub session: String,
}

/// The response message.
#[derive(Clone, PartialEq, Message)]
pub struct LookupResponse {
    /// The user that the session belongs to.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The user's groups.
    #[prost(string, repeated, tag = "2")]
    pub groups: Vec<String>,
}

/// Envoy's message that names the service to call (`envoy/config/core/v3/grpc_service.proto`).
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
}

/// A cluster in the form that Envoy's gRPC calls need.
///
/// A bare name works too, but Envoy (1.40) crashes if the name happens to be a valid protobuf message, as
/// `auth-grpc` is. None if the name is so long (126 bytes) that the message isn't UTF-8, as the SDK requires.
pub fn target(cluster: &str) -> Option<String> {
    let cluster_name = cluster.to_string();
    let envoy_grpc = Some(EnvoyGrpc { cluster_name });
    String::from_utf8(GrpcService { envoy_grpc }.encode_to_vec()).ok()
}

/// Whether an upstream could confuse two header names, as CGI does: it treats `x_user` and `x-user` alike.
/// Both must be in lower case.
pub fn is_confused_with(sent: &str, meant: &str) -> bool {
    let alike =
        |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    sent.len() == meant.len() && sent.bytes().zip(meant.bytes()).all(alike)
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is this user's.
    Known(LookupResponse),
    /// It gets this status: the session is nobody's, or the user isn't allowed in.
    Refused(u32),
    /// It isn't known whose it is.
    Failed(Failure),
}

/// Why it isn't known whose a request is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// The proxy has no such cluster.
    NotSent,
    /// The call failed with this gRPC status, from the service or the proxy.
    Status(u32),
    /// The response is invalid, or can't be put into a header.
    Nonsense,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("the proxy cannot send the call: does the cluster exist?"),
            Self::Status(status) => write!(f, "the call failed with the gRPC status {status}"),
            Self::Nonsense => f.write_str("the response is invalid"),
        }
    }
}

const NOT_FOUND: u32 = 5;
const PERMISSION_DENIED: u32 = 7;
const UNAUTHENTICATED: u32 = 16;

impl Verdict {
    /// What the result of a call means: the gRPC status, and the message if the status is 0.
    pub fn of(status: u32, message: &[u8]) -> Self {
        match status {
            0 => match LookupResponse::decode(message) {
                Ok(answer) if answer.fits_headers() => Self::Known(answer),
                _ => Self::Failed(Failure::Nonsense),
            },
            NOT_FOUND | UNAUTHENTICATED => Self::Refused(401),
            PERMISSION_DENIED => Self::Refused(403),
            _ => Self::Failed(Failure::Status(status)),
        }
    }
}

impl LookupResponse {
    /// Whether there is a user, and all of it fits into headers: the proxy would drop anything else.
    fn fits_headers(&self) -> bool {
        let fits = |text: &String| !text.is_empty() && !text.contains(char::is_control);
        fits(&self.user)
            && self
                .groups
                .iter()
                .all(|group| fits(group) && !group.contains(','))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_confused_with, target, Failure, LookupRequest, LookupResponse, Verdict};
    use prost::Message;

    fn answer(user: &str, groups: &[&str]) -> LookupResponse {
        let groups = groups.iter().map(ToString::to_string).collect();
        let user = user.to_string();
        LookupResponse { user, groups }
    }

    #[test]
    fn messages_match_the_proto_file() {
        let session = "s1".to_string();
        assert_eq!(LookupRequest { session }.encode_to_vec(), b"\x0a\x02s1");
        let encoded = answer("al", &["a", "b"]).encode_to_vec();
        assert_eq!(encoded, b"\x0a\x02al\x12\x01a\x12\x01b");
    }

    #[test]
    fn a_cluster_is_named_by_envoys_message() {
        assert_eq!(
            target("auth-grpc").as_deref(),
            Some("\x0a\x0b\x0a\x09auth-grpc")
        );
        assert!(target(&"x".repeat(125)).is_some());
        assert_eq!(target(&"x".repeat(126)), None);
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
    fn every_result_of_a_call_has_a_meaning() {
        let known = answer("alice", &["staff", "admin"]);
        let nonsense = Verdict::Failed(Failure::Nonsense);
        for (status, message, meaning) in [
            (0, known.encode_to_vec(), Verdict::Known(known)),
            (
                0,
                answer("é", &[]).encode_to_vec(),
                Verdict::Known(answer("é", &[])),
            ),
            (0, vec![], nonsense.clone()),
            (0, b"\xff\xff".to_vec(), nonsense.clone()),
            (0, b"\x0a\x01\xff".to_vec(), nonsense.clone()),
            (0, answer("a\r\nb", &[]).encode_to_vec(), nonsense.clone()),
            (0, answer("a", &["b,c"]).encode_to_vec(), nonsense.clone()),
            (0, answer("a", &[""]).encode_to_vec(), nonsense),
            (5, vec![], Verdict::Refused(401)),
            (16, vec![], Verdict::Refused(401)),
            (7, vec![], Verdict::Refused(403)),
            (4, vec![], Verdict::Failed(Failure::Status(4))),
            (14, vec![], Verdict::Failed(Failure::Status(14))),
            (99, vec![], Verdict::Failed(Failure::Status(99))),
        ] {
            assert_eq!(Verdict::of(status, &message), meaning);
        }
    }
}
