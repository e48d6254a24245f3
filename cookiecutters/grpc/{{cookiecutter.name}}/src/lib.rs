//! Looks up a request's session at a gRPC service, and tells the upstream who the user is.
//!
//! `identity.rs` defines the service and what its responses mean, and `cargo test` runs it natively. This
//! file connects it to the proxy's callbacks.

mod config;
mod identity;

use config::{Config, OnFailure};
use identity::{Failure, LookupRequest, LookupResponse, Verdict};
use log::{error, warn};
use prost::Message;
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// The host's ids of the metrics that count outcomes.
#[derive(Clone, Copy, Default)]
struct Counters {
    known: u32,
    refused: u32,
    failed: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            known: define_metric(MetricType::Counter, "identity.known")?,
            refused: define_metric(MetricType::Counter, "identity.refused")?,
            failed: define_metric(MetricType::Counter, "identity.failed")?,
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
        Some(Box::new(Lookup {
            config: Rc::clone(&self.config),
            counters: self.counters,
        }))
    }
}

/// One request, held until the service has responded.
struct Lookup {
    config: Rc<Config>,
    counters: Counters,
}

impl HttpContext for Lookup {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        // as bytes: the getters that return strings panic on a header that isn't UTF-8
        let session = self.get_http_request_header_bytes(&self.config.session_header);
        self.remove_http_request_header(&self.config.session_header);
        let told = [&self.config.user_header, &self.config.groups_header];
        for (name, _) in self.get_http_request_headers_bytes() {
            if told
                .iter()
                .any(|header| identity::is_confused_with(&name, header))
            {
                self.remove_http_request_header(&name); // otherwise a client could forge it
            }
        }
        match session.map(String::from_utf8) {
            Some(Ok(session)) if !session.is_empty() => self.ask(session),
            _ => self.refuse(401),
        }
    }
}

impl Context for Lookup {
    /// Called only while the request exists: the SDK drops the response if the client has disconnected.
    fn on_grpc_call_response(&mut self, _token: u32, status: u32, size: usize) {
        let message = match size {
            0 => None,
            size => self.get_grpc_call_response_body(0, size),
        };
        let action = match Verdict::of(status, &message.unwrap_or_default()) {
            Verdict::Known(answer) => self.tell(&answer),
            Verdict::Refused(status) => self.refuse(status),
            Verdict::Failed(failure) => self.fail(failure),
        };
        if action == Action::Continue {
            self.resume_http_request();
        }
    }
}

impl Lookup {
    fn ask(&self, session: String) -> Action {
        let Some(target) = identity::target(&self.config.cluster) else {
            return self.fail(Failure::NotSent);
        };
        let message = LookupRequest { session }.encode_to_vec();
        let timeout = Duration::from_millis(self.config.timeout_ms.get().into());
        let (service, method) = (identity::SERVICE, identity::METHOD);
        match self.dispatch_grpc_call(&target, service, method, vec![], Some(&message), timeout) {
            Ok(_) => Action::Pause, // the body waits in the proxy, which makes the client wait
            Err(_) => self.fail(Failure::NotSent),
        }
    }

    fn tell(&self, answer: &LookupResponse) -> Action {
        count(self.counters.known);
        self.set_http_request_header(&self.config.user_header, Some(&answer.user));
        if !answer.groups.is_empty() {
            let groups = answer.groups.join(",");
            self.set_http_request_header(&self.config.groups_header, Some(&groups));
        }
        Action::Continue
    }

    fn refuse(&self, status: u32) -> Action {
        count(self.counters.refused);
        let text: &[u8] = match status {
            401 => b"invalid session\n",
            _ => b"access denied\n",
        };
        self.send_http_response(status, vec![], Some(text));
        Action::Pause
    }

    fn fail(&self, failure: Failure) -> Action {
        count(self.counters.failed);
        warn!("no user from `{}`: {failure}", self.config.cluster);
        match self.config.on_failure {
            OnFailure::Allow => Action::Continue,
            OnFailure::Deny => {
                let text = b"the identity service is unavailable\n";
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
