//! Asks an authorization service about every request, and holds the request until there is a verdict.
//!
//! `call.rs` makes the call and reads the response, and `cargo test` runs it natively. This file connects
//! it to the proxy's callbacks.

mod call;
mod config;

use call::{Failure, Verdict};
use config::{Config, OnFailure};
use log::{debug, error, warn};
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// How much of a negative response's body the client gets, in bytes.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// The host's ids of the metrics that count outcomes.
#[derive(Clone, Copy, Default)]
struct Counters {
    allowed: u32,
    refused: u32,
    failed: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            allowed: define_metric(MetricType::Counter, "callout.allowed")?,
            refused: define_metric(MetricType::Counter, "callout.refused")?,
            failed: define_metric(MetricType::Counter, "callout.failed")?,
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
        Some(Box::new(Asking {
            config: Rc::clone(&self.config),
            counters: self.counters,
        }))
    }
}

/// One request, held until the service has responded.
struct Asking {
    config: Rc<Config>,
    counters: Counters,
}

impl HttpContext for Asking {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        // as bytes: the getters that return strings panic on a header that isn't UTF-8
        let request = self.get_http_request_headers_bytes();
        let told = &self.config.upstream_headers;
        for (name, _) in &request {
            if told
                .iter()
                .any(|header| call::is_confused_with(name, header))
            {
                self.remove_http_request_header(name); // otherwise a client could forge it
            }
        }
        let Some(question) = call::question(&self.config, &request) else {
            self.send_http_response(400, vec![], Some(b"a header isn't UTF-8\n"));
            return Action::Pause;
        };
        let timeout = Duration::from_millis(self.config.timeout_ms.get().into());
        match self.dispatch_http_call(&self.config.cluster, question, None, vec![], timeout) {
            Ok(_) => Action::Pause, // the body waits in the proxy, which makes the client wait
            Err(_) => self.fail(Failure::NotSent),
        }
    }
}

impl Context for Asking {
    /// Called only while the request exists: the SDK drops the response if the client has disconnected.
    fn on_http_call_response(
        &mut self,
        _token: u32,
        _headers: usize,
        body: usize,
        _trailers: usize,
    ) {
        let answer = self.get_http_call_response_headers_bytes();
        let action = match Verdict::of(&answer) {
            Verdict::Allowed => self.allow(&answer),
            Verdict::Refused(status) => self.refuse(status, &answer, body),
            Verdict::Failed(failure) => self.fail(failure),
        };
        if action == Action::Continue {
            self.resume_http_request();
        }
    }
}

impl Asking {
    fn allow(&self, answer: &call::Fields) -> Action {
        count(self.counters.allowed);
        for (name, value) in call::chosen(&self.config.upstream_headers, answer) {
            self.add_http_request_header_bytes(name, value);
        }
        Action::Continue
    }

    fn refuse(&self, status: u32, answer: &call::Fields, body: usize) -> Action {
        count(self.counters.refused);
        debug!("the service denied the request with {status}");
        let passed = call::chosen(&self.config.refusal_headers, answer);
        let utf8 = |(name, value)| Some((name, std::str::from_utf8(value).ok()?)); // the SDK accepts nothing else
        let headers = passed.into_iter().filter_map(utf8).collect();
        let body = self.get_http_call_response_body(0, body.min(LONGEST_REFUSAL));
        self.send_http_response(status, headers, Some(&body.unwrap_or_default()));
        Action::Pause
    }

    fn fail(&self, failure: Failure) -> Action {
        count(self.counters.failed);
        warn!("no verdict from `{}`: {failure}", self.config.cluster);
        match self.config.on_failure {
            OnFailure::Allow => Action::Continue,
            OnFailure::Deny => {
                let text = b"the authorization service is unavailable\n";
                self.send_http_response(503, vec![], Some(text));
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
