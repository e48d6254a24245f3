//! Limits how often a client comes: a token bucket for each, which all workers share.
//!
//! How a bucket fills and empties is in `bucket.rs`, which `cargo test` runs natively. Here the proxy's
//! callbacks are handed to it, and the buckets are kept in the proxy's shared data.

mod bucket;
mod config;

use bucket::{Rate, Time, Verdict};
use config::{Client, Config};
use log::{error, info, warn};
use proxy_wasm::hostcalls::{define_metric, get_property, increment_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// How often a token is tried for, when other workers were quicker; each time one of them has got one.
const TRIES: u32 = 10;

/// No number that the host gives to a value for a long time: it counts from 1. A value that isn't there
/// yet takes any, one that has come meanwhile has another.
const NOT_THERE_YET: u32 = u32::MAX;

/// How many requests ended how; the host's numbers of the metrics.
#[derive(Clone, Copy, Default)]
struct Counters {
    allowed: u32,
    limited: u32,
    contended: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            allowed: define_metric(MetricType::Counter, "ratelimit.allowed")?,
            limited: define_metric(MetricType::Counter, "ratelimit.limited")?,
            contended: define_metric(MetricType::Counter, "ratelimit.contended")?,
        })
    }
}

/// What the requests of a worker have in common.
#[derive(Default)]
struct Limit {
    config: Config,
    /// What the proxy calls this plugin: another one's buckets aren't this one's.
    plugin: String,
    rate: Rate,
    counters: Counters,
    /// Requests that were too many since the last report.
    unreported: Cell<u64>,
}

/// Made once a worker thread; makes a context for each request.
#[derive(Default)]
struct Root {
    limit: Rc<Limit>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let given = self.get_plugin_configuration().unwrap_or_default();
        match (Config::parse(&given), Counters::define()) {
            (Ok(config), Ok(counters)) => {
                let (requests, seconds) = (config.requests.get(), config.seconds.get());
                let rate = Rate::new(requests, seconds, config.burst.get());
                self.set_tick_period(Duration::from_secs(config.report_seconds.into()));
                let plugin = property(vec!["plugin_name"]);
                let plugin = String::from_utf8_lossy(&plugin).into_owned();
                let unreported = Cell::default();
                self.limit = Rc::new(Limit {
                    config,
                    plugin,
                    rate,
                    counters,
                    unreported,
                });
                true
            }
            (Err(reason), _) => {
                error!("the configuration can't be used: {reason}");
                false
            }
            (_, Err(status)) => {
                error!("the host defines no metrics: {status:?}");
                false
            }
        }
    }

    /// A line for all that were too many since the last: one for each would fill the log when it matters.
    fn on_tick(&mut self) {
        let limited = self.limit.unreported.take();
        if limited > 0 {
            let seconds = self.limit.config.report_seconds;
            info!("{limited} requests were too many, in this worker's last {seconds} seconds");
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Limited {
            limit: Rc::clone(&self.limit),
        }))
    }
}

/// One request, of a client that has a bucket.
struct Limited {
    limit: Rc<Limit>,
}

impl Context for Limited {}

impl HttpContext for Limited {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let Limit { config, plugin, .. } = &*self.limit;
        let bucket = bucket::bucket_of(&self.client(), config.buckets.get());
        match self.take(&format!("ratelimit.{plugin}.{bucket}")) {
            Some(Verdict::Taken(_)) => {
                count(self.limit.counters.allowed);
                Action::Continue
            }
            Some(Verdict::Empty(wait)) => {
                count(self.limit.counters.limited);
                let unreported = &self.limit.unreported;
                unreported.set(unreported.get().saturating_add(1));
                let seconds = bucket::seconds(wait).to_string();
                let headers = vec![("retry-after", seconds.as_str())];
                self.send_http_response(429, headers, Some(b"too many requests\n"));
                Action::Pause
            }
            None => {
                count(self.limit.counters.contended);
                Action::Continue // a request that nobody can judge is let through
            }
        }
    }
}

impl Limited {
    /// Who the request is from, as the configuration tells clients apart.
    fn client(&self) -> Vec<u8> {
        let address = || property(vec!["source", "address"]);
        match &self.limit.config.client {
            Client::All => vec![],
            Client::Address => bucket::host(&address()),
            // as bytes: the getters that return strings panic on a header that isn't UTF-8
            Client::Header(name) => match self.get_http_request_header_bytes(name) {
                Some(value) => value,
                None => bucket::host(&address()),
            },
        }
    }

    /// Take a token from the bucket that is kept by that name; None when others were quicker, every time.
    fn take(&self, name: &str) -> Option<Verdict> {
        let now = self
            .get_current_time()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = Time::try_from(now.as_nanos()).unwrap_or(Time::MAX);
        for _ in 0..TRIES {
            let (value, cas) = self.get_shared_data(name);
            let full = value
                .and_then(|value| value.try_into().ok())
                .map_or(0, Time::from_le_bytes);
            let verdict = self.limit.rate.take(full, now);
            let Verdict::Taken(full) = verdict else {
                return Some(verdict);
            };
            let cas = cas.unwrap_or(NOT_THERE_YET);
            if self
                .set_shared_data(name, Some(&full.to_le_bytes()), Some(cas))
                .is_ok()
            {
                return Some(verdict);
            }
        }
        None
    }
}

/// The proxy's word for it, or nothing: the contexts' own method panics where the host says no.
fn property(path: Vec<&str>) -> Vec<u8> {
    get_property(path).ok().flatten().unwrap_or_default()
}

fn count(counter: u32) {
    if let Err(status) = increment_metric(counter, 1) {
        warn!("the host doesn't count: {status:?}");
    }
}
