//! Token buckets. Nothing here talks to the proxy: `cargo test` runs it natively.
//!
//! A bucket fills steadily, and each request takes one token. The only state of a bucket is the time at
//! which it will be full again, in nanoseconds since 1970: the number of tokens follows from it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Nanoseconds since 1970.
pub type Time = u64;

/// How fast a bucket fills, and how many tokens it holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Nanoseconds until the next token.
    token: u64,
    /// Nanoseconds until an empty bucket is full.
    bucket: u64,
}

/// The outcome of a request.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It got a token; the time at which the bucket will now be full.
    Taken(Time),
    /// There was no token; how long until there is one.
    Empty(Duration),
}

impl Rate {
    /// A limit of `requests` per `seconds`, and at most `burst` of them at once.
    pub fn new(requests: u32, seconds: u32, burst: u32) -> Self {
        let nanoseconds = u64::from(seconds) * 1_000_000_000;
        let token = (nanoseconds / u64::from(requests.max(1))).max(1);
        Self {
            token,
            bucket: token.saturating_mul(u64::from(burst)),
        }
    }

    /// Take a token from the bucket that will be full at `full`; for an unknown bucket, that is 0.
    ///
    /// If the clock was set back, a bucket can seem to have fewer tokens than none: it counts as empty.
    pub fn take(self, full: Time, now: Time) -> Verdict {
        let missing = full.saturating_sub(now).min(self.bucket);
        let after = missing.saturating_add(self.token);
        if after > self.bucket {
            Verdict::Empty(Duration::from_nanos(after - self.bucket))
        } else {
            Verdict::Taken(now.saturating_add(after))
        }
    }
}

/// The number of a client's bucket.
pub fn bucket_of(client: &[u8], buckets: u32) -> u32 {
    let mut hasher = DefaultHasher::new(); // the same in every worker, because they run the same module
    client.hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(buckets.max(1))).unwrap_or_default()
}

/// The client at an address in the proxy's notation: `1.2.3.4:5678`, `[2001:db8::1]:5678`, or a path.
///
/// The port doesn't count, and only the first 64 bits of IPv6: a client can choose the rest for each request.
pub fn host(address: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(address).ok();
    let ip = text.and_then(|text| text.parse::<SocketAddr>().ok());
    match ip.map(|address| address.ip().to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Some(IpAddr::V6(ip)) => ip.octets().into_iter().take(8).collect(),
        None => address.to_vec(),
    }
}

/// Whole seconds, rounded up, so that waiting this long is always enough.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::{bucket_of, host, seconds, Rate, Time, Verdict};
    use std::time::Duration;

    const SECOND: Time = 1_000_000_000;
    const NOW: Time = 1_700_000_000 * SECOND;

    /// How many of `requests` at once pass, and when the bucket is full afterwards.
    fn at_once(rate: Rate, mut full: Time, now: Time, requests: u32) -> (u32, Time) {
        let mut passed = 0;
        for _ in 0..requests {
            if let Verdict::Taken(then) = rate.take(full, now) {
                full = then;
                passed += 1;
            }
        }
        (passed, full)
    }

    #[test]
    fn a_new_bucket_is_full() {
        assert_eq!(at_once(Rate::new(1, 1, 5), 0, NOW, 100).0, 5);
    }

    #[test]
    fn a_bucket_fills_steadily_and_never_overflows() {
        let rate = Rate::new(10, 1, 5);
        let (_, full) = at_once(rate, 0, NOW, 5);
        for (later, tokens) in [(99, 0), (100, 1), (199, 1), (200, 2), (500, 5), (9000, 5)] {
            assert_eq!(
                at_once(rate, full, NOW + later * 1_000_000, 100).0,
                tokens,
                "{later} ms"
            );
        }
    }

    #[test]
    fn the_average_is_the_rate() {
        let rate = Rate::new(3, 1, 2);
        let (mut full, mut passed) = (0, 0);
        for millisecond in 0..60_000 {
            let (more, then) = at_once(rate, full, NOW + millisecond * 1_000_000, 3);
            (full, passed) = (then, passed + more);
        }
        assert!((180..=182).contains(&passed), "{passed}");
    }

    #[test]
    fn after_the_wait_a_request_passes() {
        let rate = Rate::new(7, 60, 1);
        let (_, full) = at_once(rate, 0, NOW, 1);
        let wait = Duration::from_nanos(60 * SECOND / 7);
        assert_eq!(rate.take(full, NOW), Verdict::Empty(wait));
        assert_eq!(seconds(wait), 9);
        assert!(matches!(
            rate.take(full, NOW + 60 * SECOND / 7),
            Verdict::Taken(_)
        ));
        assert_eq!(seconds(Duration::from_secs(2)), 2);
    }

    #[test]
    fn after_a_clock_is_set_back_nobody_waits_longer_than_for_one_token() {
        let rate = Rate::new(1, 1, 5);
        let (_, full) = at_once(rate, 0, NOW, 5);
        let earlier = NOW - 3600 * SECOND;
        assert_eq!(
            rate.take(full, earlier),
            Verdict::Empty(Duration::from_secs(1))
        );
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        for (requests, seconds, burst) in [(u32::MAX, 1, 1), (1, u32::MAX, u32::MAX), (0, 0, 0)] {
            let rate = Rate::new(requests, seconds, burst);
            for full in [0, Time::MAX] {
                for now in [0, Time::MAX] {
                    let _ = rate.take(full, now);
                }
            }
        }
        assert_eq!(bucket_of(b"a", 0), 0);
    }

    #[test]
    fn clients_are_spread_over_all_buckets() {
        let mut met = [0; 16];
        for client in 0..1600 {
            let bucket = bucket_of(format!("10.0.0.{client}").as_bytes(), 16);
            if let Some(count) = met.get_mut(bucket as usize) {
                *count += 1;
            }
        }
        assert_eq!(met.iter().sum::<u32>(), 1600);
        assert!(met.iter().all(|count| (50..150).contains(count)), "{met:?}");
    }

    #[test]
    fn only_the_part_of_an_address_that_a_client_can_not_choose_counts() {
        for (one, other, same) in [
            ("1.2.3.4:5", "1.2.3.4:6", true),
            ("1.2.3.4:5", "1.2.3.5:5", false),
            ("1.2.3.4:5", "[::ffff:1.2.3.4]:6", true),
            ("[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.5]:5", false),
            ("[2001:db8::1]:5", "[2001:db8::a:b:c:d]:6", true),
            ("[2001:db8::1]:5", "[2001:db8:0:1::1]:5", false),
            ("/run/envoy.sock", "/run/other.sock", false),
        ] {
            let (one, other) = (host(one.as_bytes()), host(other.as_bytes()));
            assert_eq!(one == other, same, "{one:?} {other:?}");
        }
        assert_eq!(host(b"\xff"), b"\xff");
    }
}
