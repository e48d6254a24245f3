//! Decides about a connection. Nothing here talks to the proxy: `cargo test` runs it natively.

use crate::config::Config;
use std::fmt;
use std::net::SocketAddr;

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Its address is blocked.
    Peer,
    /// Its first bytes aren't allowed.
    Start,
    /// The client has sent too much.
    Size,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "its address is blocked",
            Self::Start => "its first bytes aren't allowed",
            Self::Size => "the client sends too much",
        })
    }
}

/// What to do with the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Let them through.
    Pass,
    /// Hold them back until more have arrived.
    Wait,
    /// Close the connection.
    Close(Reason),
}

/// One connection, and how much its client has sent.
#[derive(Debug, Default)]
pub struct Guard {
    known: bool,
    sent: u64,
}

impl Guard {
    /// Whether to accept a new connection from `peer`; a peer without an IP address is always accepted.
    pub fn admit(config: &Config, peer: &[u8]) -> bool {
        let address = std::str::from_utf8(peer)
            .ok()
            .and_then(|text| text.parse::<SocketAddr>().ok());
        address.map_or(true, |address| {
            let peer = address.ip().to_canonical();
            let mut refused = config.refused_peers.iter();
            !refused.any(|each| each.to_canonical() == peer)
        })
    }

    /// How many bytes of the client have passed.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of the first bytes `judge` looks at.
    pub fn looks_at(config: &Config) -> usize {
        config
            .first_bytes
            .iter()
            .map(String::len)
            .max()
            .unwrap_or(0)
    }

    /// What to do with the `size` bytes that wait and start with `first`; with `last`, no more will come.
    ///
    /// They include the bytes that had to wait before.
    pub fn judge(&mut self, config: &Config, first: &[u8], size: usize, last: bool) -> Verdict {
        if size == 0 {
            return Verdict::Pass; // only the end of the connection
        }
        let sent = self.sent.saturating_add(size as u64);
        if config.max_upload.is_some_and(|most| sent > most.get()) {
            return Verdict::Close(Reason::Size);
        }
        if !self.known && !config.first_bytes.is_empty() {
            let mut starts = config.first_bytes.iter().map(String::as_bytes);
            if !starts.clone().any(|start| first.starts_with(start)) {
                let may_become = starts.any(|start| start.starts_with(first));
                return if may_become && !last {
                    Verdict::Wait
                } else {
                    Verdict::Close(Reason::Start)
                };
            }
        }
        self.known = true;
        self.sent = sent;
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::{Guard, Reason, Verdict};
    use crate::config::Config;

    fn config(json: &str) -> Config {
        Config::parse(json.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn an_address_is_blocked_whatever_the_port() {
        let peers = r#"{"refused_peers": ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"]}"#;
        let config = config(peers);
        for refused in [
            "192.0.2.1:1",
            "192.0.2.1:65535",
            "[2001:db8::1]:2",
            "[::ffff:192.0.2.1]:3",
            "192.0.2.2:4",
        ] {
            assert!(!Guard::admit(&config, refused.as_bytes()), "{refused}");
        }
        for admitted in [
            "192.0.2.10:1",
            "[2001:db8::2]:2",
            "/run/socket",
            "",
            "\u{0}",
        ] {
            assert!(Guard::admit(&config, admitted.as_bytes()), "{admitted}");
        }
        assert!(Guard::admit(&config, b"\xff"));
    }

    #[test]
    fn without_rules_everything_passes() {
        let (mut guard, config) = (Guard::default(), Config::default());
        assert_eq!(Guard::looks_at(&config), 0);
        assert_eq!(guard.judge(&config, b"", 1 << 20, false), Verdict::Pass);
        assert_eq!(guard.judge(&config, b"", 0, true), Verdict::Pass);
    }

    #[test]
    fn the_first_bytes_decide_in_whatever_pieces_they_arrive() {
        let config = config(r#"{"first_bytes": ["GET ", "HELO"]}"#);
        let mut guard = Guard::default();
        assert_eq!(Guard::looks_at(&config), 4);
        for (first, verdict) in [
            (&b"H"[..], Verdict::Wait),
            (b"HEL", Verdict::Wait),
            (b"HELO", Verdict::Pass),
            (b"anything", Verdict::Pass), // later bytes aren't checked
        ] {
            assert_eq!(
                guard.judge(&config, first, first.len(), false),
                verdict,
                "{first:?}"
            );
        }
    }

    #[test]
    fn other_first_bytes_are_rejected() {
        let config = config(r#"{"first_bytes": ["GET "]}"#);
        for (first, last) in [
            (&b"get "[..], false),
            (b"GETS", false),
            (b"\xff", false),
            (b"GE", true),
        ] {
            let verdict = Guard::default().judge(&config, first, first.len(), last);
            assert_eq!(verdict, Verdict::Close(Reason::Start), "{first:?}");
        }
    }

    #[test]
    fn a_client_that_sends_nothing_is_accepted() {
        let config = config(r#"{"first_bytes": ["GET "]}"#);
        let mut guard = Guard::default();
        assert_eq!(guard.judge(&config, b"", 0, false), Verdict::Pass);
        assert_eq!(
            guard.judge(&config, b"x", 1, false),
            Verdict::Close(Reason::Start)
        );
    }

    #[test]
    fn bytes_are_counted_when_they_pass() {
        let config = config(r#"{"max_upload": 10, "first_bytes": ["GET "]}"#);
        let mut guard = Guard::default();
        assert_eq!(guard.judge(&config, b"GE", 2, false), Verdict::Wait);
        assert_eq!(guard.judge(&config, b"GET ", 6, false), Verdict::Pass);
        assert_eq!(guard.judge(&config, b"", 4, false), Verdict::Pass);
        assert_eq!(
            guard.judge(&config, b"", 1, false),
            Verdict::Close(Reason::Size)
        );
    }
}
