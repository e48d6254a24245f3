//! The identity service as `proto/identity.proto` describes it, and what its answers mean.

use prost::Message;
use std::fmt;

/// The service that is asked.
pub const SERVICE: &str = "identity.v1.Identity";
/// Its method that is called.
pub const METHOD: &str = "Lookup";

/// The question.
#[derive(Clone, PartialEq, Message)]
pub struct LookupRequest {
    /// As the client sent it.
    #[prost(string, tag = "1")]
    pub session: String,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct LookupResponse {
    /// Whose session it is.
    #[prost(string, tag = "1")]
    pub user: String,
    /// What they belong to.
    #[prost(string, repeated, tag = "2")]
    pub groups: Vec<String>,
}

/// Envoy's word for whom to call (`envoy/config/core/v3/grpc_service.proto`).
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

/// A cluster as Envoy's gRPC calls want it.
///
/// They take a bare name, too, but Envoy (1.40) crashes on one that happens to be a protobuf message, as
/// `auth-grpc` is. None when the name is so long (126 bytes) that this isn't UTF-8, which the SDK wants.
pub fn target(cluster: &str) -> Option<String> {
    let cluster_name = cluster.to_string();
    let envoy_grpc = Some(EnvoyGrpc { cluster_name });
    String::from_utf8(GrpcService { envoy_grpc }.encode_to_vec()).ok()
}

/// Whether an upstream may take a header of one name for one of the other, as CGI and its like do, to which
/// `x_user` is `x-user`. Both in lower case.
pub fn is_taken_for(sent: &str, meant: &str) -> bool {
    let alike =
        |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    sent.len() == meant.len() && sent.bytes().zip(meant.bytes()).all(alike)
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is theirs.
    Known(LookupResponse),
    /// It is answered with this status: nobody's session, or one of somebody who may not come in.
    Refused(u32),
    /// Nobody says whose it is.
    Failed(Failure),
}

/// Why nobody says whose a request is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// The proxy has no such cluster.
    NotSent,
    /// The call failed, with this status of gRPC's, by the service or by the proxy.
    Status(u32),
    /// The answer is none, or nothing that a header can carry.
    Nonsense,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => {
                f.write_str("the proxy could not send the call: is there such a cluster?")
            }
            Self::Status(status) => write!(f, "the call failed with the gRPC status {status}"),
            Self::Nonsense => f.write_str("its answer makes no sense"),
        }
    }
}

const NOT_FOUND: u32 = 5;
const PERMISSION_DENIED: u32 = 7;
const UNAUTHENTICATED: u32 = 16;

impl Verdict {
    /// What the end of a call says: gRPC's status, and the message that came with 0.
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
    /// Whether there is a user, and headers can carry all of it: the proxy doesn't send what they can't.
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
    use super::{is_taken_for, target, Failure, LookupRequest, LookupResponse, Verdict};
    use prost::Message;

    fn answer(user: &str, groups: &[&str]) -> LookupResponse {
        let groups = groups.iter().map(ToString::to_string).collect();
        let user = user.to_string();
        LookupResponse { user, groups }
    }

    #[test]
    fn messages_are_those_of_the_proto_file() {
        let session = "s1".to_string();
        assert_eq!(LookupRequest { session }.encode_to_vec(), b"\x0a\x02s1");
        let encoded = answer("al", &["a", "b"]).encode_to_vec();
        assert_eq!(encoded, b"\x0a\x02al\x12\x01a\x12\x01b");
    }

    #[test]
    fn a_cluster_is_named_in_envoys_own_message() {
        assert_eq!(
            target("auth-grpc").as_deref(),
            Some("\x0a\x0b\x0a\x09auth-grpc")
        );
        assert!(target(&"x".repeat(125)).is_some());
        assert_eq!(target(&"x".repeat(126)), None);
    }

    #[test]
    fn a_name_is_taken_for_those_that_differ_in_signs_alone() {
        for sent in ["x-user", "x_user", "x.user"] {
            assert!(is_taken_for(sent, "x-user"), "{sent}");
            assert!(is_taken_for("x-user", sent), "{sent}");
        }
        for sent in ["", "x-use", "x-users", "xauser", "x--user"] {
            assert!(!is_taken_for(sent, "x-user"), "{sent}");
        }
    }

    #[test]
    fn every_end_of_a_call_has_a_meaning() {
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
