//! Authenticates requests by bearer token or API key, and tells the upstream whose key it is.
//!
//! `credential.rs` checks the key, and `cargo test` runs it natively. This file connects it to the
//! proxy's callbacks.

mod config;
mod credential;

use config::Config;
use credential::Verdict;
use log::{error, warn};
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// The host's ids of the metrics that count outcomes.
#[derive(Clone, Copy, Default)]
struct Counters {
    allowed: u32,
    missing: u32,
    wrong: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            allowed: define_metric(MetricType::Counter, "auth.allowed")?,
            missing: define_metric(MetricType::Counter, "auth.missing")?,
            wrong: define_metric(MetricType::Counter, "auth.wrong")?,
        })
    }
}

/// Created once per worker thread; creates a context for each request.
#[derive(Default)]
struct Root {
    config: Rc<Config>,
    counters: Counters,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match (Config::parse(&bytes), Counters::define()) {
            (Ok(config), Ok(counters)) => {
                if config.keys.is_empty() {
                    warn!("there are no keys: only open paths can be reached");
                }
                self.config = Rc::new(config);
                self.counters = counters;
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

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Gate {
            config: Rc::clone(&self.config),
            counters: self.counters,
        }))
    }
}

/// One request.
struct Gate {
    config: Rc<Config>,
    counters: Counters,
}

impl Context for Gate {}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let config = &self.config;
        // as bytes: the getters that return strings panic on a header that isn't UTF-8
        let target = self
            .get_http_request_header_bytes(":path")
            .unwrap_or_default();
        let credential = self.get_http_request_header_bytes(&config.header);
        for (name, _) in self.get_http_request_headers_bytes() {
            if credential::is_confused_with(&name, &config.name_header) {
                self.remove_http_request_header(&name); // otherwise a client could forge it
            }
        }
        if config.strip {
            self.remove_http_request_header(&config.header);
        }
        if credential::is_open(&target, &config.open_paths) {
            return Action::Continue;
        }
        match credential::judge(credential.as_deref(), &config.scheme, &config.keys) {
            Verdict::Known(name) => {
                count(self.counters.allowed);
                self.set_http_request_header(&config.name_header, Some(name));
                Action::Continue
            }
            Verdict::Missing => {
                count(self.counters.missing);
                let scheme = Some(config.scheme.as_str()).filter(|scheme| !scheme.is_empty());
                let challenge =
                    format!("{} realm=\"{}\"", scheme.unwrap_or("ApiKey"), config.realm);
                let headers = vec![("www-authenticate", challenge.as_str())];
                self.send_http_response(401, headers, Some(b"an API key is required\n"));
                Action::Pause
            }
            Verdict::Wrong => {
                count(self.counters.wrong);
                self.send_http_response(403, vec![], Some(b"invalid API key\n"));
                Action::Pause
            }
        }
    }
}

fn count(counter: u32) {
    if let Err(status) = increment_metric(counter, 1) {
        warn!("the host can't count: {status:?}");
    }
}
