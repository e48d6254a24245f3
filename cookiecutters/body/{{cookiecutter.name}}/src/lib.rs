//! Edits the JSON bodies of requests and responses.
//!
//! `rewrite.rs` decides which bodies to edit and how, and `cargo test` runs it natively. This file connects
//! it to the proxy's callbacks: it collects a body until it is complete, and sends nothing of it before.

mod config;
mod rewrite;

use config::{Config, OnFailure};
use log::{error, warn};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType, Status};
use rewrite::{Failure, Rewrite};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// The host's ids of the metrics that count bodies.
#[derive(Clone, Copy, Default)]
struct Counters {
    rewritten: u32,
    failed: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            rewritten: hostcalls::define_metric(MetricType::Counter, "body.rewritten")?,
            failed: hostcalls::define_metric(MetricType::Counter, "body.failed")?,
        })
    }
}

/// Shared by all requests.
#[derive(Default)]
struct Shared {
    config: Config,
    request: Rewrite,
    response: Rewrite,
    counters: Counters,
}

/// Created once per worker thread; creates a context for each request.
#[derive(Default)]
struct Root {
    shared: Rc<Shared>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match (Config::parse(&bytes), Counters::define()) {
            (Ok(config), Ok(counters)) => {
                self.shared = Rc::new(Shared {
                    request: Rewrite::new(&config.request, &config.mask_with),
                    response: Rewrite::new(&config.response, &config.mask_with),
                    config,
                    counters,
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

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange {
            shared: Rc::clone(&self.shared),
            collecting_request: false,
            collecting_response: false,
        }))
    }
}

/// One request and its response. The response can start before the request has ended.
struct Exchange {
    shared: Rc<Shared>,
    collecting_request: bool,
    collecting_response: bool,
}

/// Which of the two bodies.
#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        if !self.shared.response.is_empty() {
            // otherwise the upstream could compress the body, or send only a part of it
            self.remove_http_request_header("accept-encoding");
            self.remove_http_request_header("range");
        }
        self.headers(Side::Request, end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.body(Side::Request, size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        self.whole(Side::Request)
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        self.headers(Side::Response, end_of_stream)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.body(Side::Response, size, end_of_stream)
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        self.whole(Side::Response)
    }
}

impl Exchange {
    /// Decide whether to collect the body. The headers are sent immediately: while they are held back, the
    /// proxy delivers no body.
    fn headers(&mut self, side: Side, end_of_stream: bool) -> Action {
        if end_of_stream || side.rewrite(&self.shared).is_empty() {
            return Action::Continue;
        }
        // as bytes: the getters that return strings panic on a header that isn't UTF-8
        let header = |name| {
            hostcalls::get_map_value_bytes(side.map(), name)
                .ok()
                .flatten()
        };
        let [kind, encoding, length] = ["content-type", "content-encoding", "content-length"]
            .map(|name| header(name).unwrap_or_default());
        match rewrite::wanted(&kind, &encoding, &length, self.max_bytes()) {
            Ok(false) => Action::Continue,
            Ok(true) => {
                // the proxy doesn't correct it; without it, the proxy sends chunks
                if hostcalls::remove_map_value(side.map(), "content-length").is_err() {
                    return self.fail(side, Failure::Fixed);
                }
                *self.collecting(side) = true;
                Action::Continue
            }
            Err(failure) => self.fail(side, failure),
        }
    }

    /// Hold the body, of which `held` bytes have arrived, until it has ended.
    fn body(&mut self, side: Side, held: usize, end_of_stream: bool) -> Action {
        if !*self.collecting(side) {
            return Action::Continue;
        }
        if held > self.max_bytes() {
            return self.fail(side, Failure::TooLong);
        }
        if end_of_stream {
            return self.whole(side);
        }
        Action::Pause
    }

    /// Edit the collected body, which has ended.
    fn whole(&mut self, side: Side) -> Action {
        if !std::mem::take(self.collecting(side)) {
            return Action::Continue;
        }
        let body = match hostcalls::get_buffer(side.buffer(), 0, usize::MAX) {
            Ok(Some(body)) => body,
            Ok(None) => return Action::Continue, // it is empty
            Err(_) => return self.fail(side, Failure::Fixed),
        };
        match side.rewrite(&self.shared).apply(&body) {
            Ok(rewritten) => {
                if hostcalls::set_buffer(side.buffer(), 0, body.len(), &rewritten).is_err() {
                    return self.fail(side, Failure::Fixed);
                }
                count(self.shared.counters.rewritten);
                Action::Continue
            }
            Err(failure) => self.fail(side, failure),
        }
    }

    fn fail(&mut self, side: Side, failure: Failure) -> Action {
        *self.collecting(side) = false;
        count(self.shared.counters.failed);
        let name = side.name();
        warn!("cannot edit the body of a {name}: {failure}");
        if self.shared.config.on_failure == OnFailure::Pass {
            return Action::Continue;
        }
        let status = match side {
            Side::Request => failure.status(),
            Side::Response => 502,
        };
        let text = format!("the body of the {name} is rejected: {failure}\n");
        self.send_http_response(status, vec![], Some(text.as_bytes()));
        Action::Pause
    }

    fn max_bytes(&self) -> usize {
        usize::try_from(self.shared.config.max_bytes.get()).unwrap_or(usize::MAX)
    }

    fn collecting(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Request => &mut self.collecting_request,
            Side::Response => &mut self.collecting_response,
        }
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    fn map(self) -> MapType {
        match self {
            Self::Request => MapType::HttpRequestHeaders,
            Self::Response => MapType::HttpResponseHeaders,
        }
    }

    fn buffer(self) -> BufferType {
        match self {
            Self::Request => BufferType::HttpRequestBody,
            Self::Response => BufferType::HttpResponseBody,
        }
    }

    fn rewrite(self, shared: &Shared) -> &Rewrite {
        match self {
            Self::Request => &shared.request,
            Self::Response => &shared.response,
        }
    }
}

fn count(counter: u32) {
    if let Err(status) = hostcalls::increment_metric(counter, 1) {
        warn!("the host can't count: {status:?}");
    }
}
