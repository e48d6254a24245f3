//! Limits each client's request rate, with token buckets that all workers share.
//!
//! `bucket.rs` computes how a bucket fills and empties, and `cargo test` runs it natively. This file
//! connects it to the proxy's callbacks, and keeps the buckets in the proxy's shared data.

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

/// How often to try for a token when other workers are faster; each time, one of them has got one.
const TRIES: u32 = 10;

/// A number that the host won't give to a value for a long time, since it counts from 1. It matches a value
/// that doesn't exist yet, but not one that another worker has just created.
const NOT_THERE_YET: u32 = u32::MAX;

/// The host's ids of the metrics that count outcomes.
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

/// Shared by the requests of a worker.
#[derive(Default)]
struct Limit {
    config: Config,
    /// The proxy's name for this plugin, which keeps its buckets apart from those of others.
    plugin: String,
    rate: Rate,
    counters: Counters,
    /// Requests that were rejected since the last report.
    unreported: Cell<u64>,
}

/// Created once per worker thread; creates a context for each request.
#[derive(Default)]
struct Root {
    limit: Rc<Limit>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match (Config::parse(&bytes), Counters::define()) {
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
                error!("invalid configuration: {reason}");
                false
            }
            (_, Err(status)) => {
                error!("the host can't define metrics: {status:?}");
                false
            }
        }
    }

    /// Log one line for all rejected requests: one line each would flood the log when it matters.
    fn on_tick(&mut self) {
        let limited = self.limit.unreported.take();
        if limited > 0 {
            let seconds = self.limit.config.report_seconds;
            info!("{limited} requests were rejected by this worker in the last {seconds} s");
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

/// One request.
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
                Action::Continue // if the bucket can't be read, the request passes
            }
        }
    }
}

impl Limited {
    /// The client that sent the request, according to the configuration.
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

    /// Take a token from the bucket of this name; None if other workers were faster every time.
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

/// A property of the proxy, or nothing: the contexts' own method panics if the host refuses.
fn property(path: Vec<&str>) -> Vec<u8> {
    get_property(path).ok().flatten().unwrap_or_default()
}

fn count(counter: u32) {
    if let Err(status) = increment_metric(counter, 1) {
        warn!("the host can't count: {status:?}");
    }
}
