//! A plugin that shows everything a test wants to see, and fails in every way one asks it to.
//!
//! The request's path chooses: `/panic`, `/panic-response`, `/loop`, `/eat` (memory), `/local` (answers by itself),
//! `/close` (ends the stream), `/pause` and `/pause-response` (for ever), `/lengthen` and `/shorten` (the body, and not
//! its content-length), `/strip` (takes the request id away), `/hold` (pauses until a callout has come back),
//! `/call-nowhere`, also with `-and-panic` or `-and-wait` (calls a cluster that isn't there), `/vm` (answers with what
//! its VM has got), `/measure/NUMBER` (sets a gauge, and records it in a histogram), `/metadata` (tells the upstream
//! the node's and the route's), `/wait-for-body` (holds the headers back until the body has come).
//! Where there are trailers, one is added. The
//! configuration `refuse` is refused, `panic` panics; any other comes back in `x-configuration`.

use log::{error, info};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root::default()) });
}}

#[derive(Default)]
struct Root {
    vm_configuration: String,
    configuration: String,
    requests: Option<u32>,
    measured: Option<(u32, u32)>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _size: usize) -> bool {
        let bytes = self.get_vm_configuration().unwrap_or_default();
        self.vm_configuration = String::from_utf8_lossy(&bytes).into_owned();
        true
    }

    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        self.configuration = String::from_utf8_lossy(&bytes).into_owned();
        self.requests = hostcalls::define_metric(MetricType::Counter, "probe_requests").ok();
        let gauge = hostcalls::define_metric(MetricType::Gauge, "probe_level");
        let histogram = hostcalls::define_metric(MetricType::Histogram, "probe.sizes");
        self.measured = gauge.ok().zip(histogram.ok());
        match self.configuration.as_str() {
            "\"panic\"" => panic!("asked to panic in on_configure"),
            "\"refuse\"" => {
                error!("the configuration is refused, as asked");
                false
            }
            _ => true,
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            vm_configuration: self.vm_configuration.clone(),
            configuration: self.configuration.clone(),
            panics_later: false,
            pauses_later: false,
            lengthens: false,
            shortens: false,
            requests: self.requests,
            measured: self.measured,
        }))
    }
}

struct Stream {
    vm_configuration: String,
    configuration: String,
    panics_later: bool,
    pauses_later: bool,
    lengthens: bool,
    shortens: bool,
    requests: Option<u32>,
    measured: Option<(u32, u32)>,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _: u32, _: usize, body_size: usize, _: usize) {
        let body = self.get_http_call_response_body(0, body_size).unwrap_or_default();
        self.set_http_request_header_bytes("x-callout", Some(&body));
        self.resume_http_request();
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(id) = self.requests {
            let _ = hostcalls::increment_metric(id, 1);
        }
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let number = path.strip_prefix("/measure/").and_then(|number| number.parse().ok());
        if let (Some(number), Some((gauge, histogram))) = (number, self.measured) {
            let _ = hostcalls::record_metric(gauge, number);
            let _ = hostcalls::record_metric(histogram, number);
        }
        match path.as_str() {
            "/panic" => panic!("asked to panic"),
            "/panic-response" => self.panics_later = true,
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/eat" => {
                let mut eaten: Vec<Vec<u8>> = Vec::new();
                loop {
                    eaten.push(vec![1; 1 << 20]);
                    std::hint::black_box(&eaten);
                }
            }
            "/flood" => (0..1000).for_each(|number| info!("{number} {}", "x".repeat(100_000))),
            "/huge" => info!("{}", "x".repeat(20_000_000)),
            "/hostile" => info!("\u{1b}]0;x\u{7}\u{1b}[2J\nerror: forged\n::stop-commands::x"),
            "/local" => self.send_http_response(418, vec![("x-local", "yes")], Some(b"short and stout")),
            "/vm" => {
                let greeting = std::env::var("GREETING").unwrap_or_default();
                let home = std::env::var("HOME").unwrap_or_default();
                let body = format!("{greeting} {home} {}", self.vm_configuration);
                self.send_http_response(200, vec![], Some(body.as_bytes()));
            }
            "/metadata" => {
                let node = self.get_property(vec!["xds", "node", "metadata", "team"]);
                let route = self.get_property(vec!["xds", "route_metadata", "filter_metadata", "app", "plan"]);
                let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
                self.set_http_request_header("x-metadata", Some(&format!("{} {}", text(node), text(route))));
            }
            "/pause" => return Action::Pause,
            "/pause-response" => self.pauses_later = true,
            "/lengthen" => self.lengthens = true,
            "/shorten" => self.shortens = true,
            "/close" => {
                self.reset_http_request();
                return Action::Pause;
            }
            "/wait-for-body" => return Action::Pause,
            "/secrets" => {
                self.set_http_request_header("authorization", None);
                self.set_http_request_header("x-api-key", Some("hunter2"));
            }
            "/strip" => self.set_http_request_header("x-request-id", None),
            "/call-nowhere" | "/call-nowhere-and-panic" | "/call-nowhere-and-wait" => {
                let headers = vec![(":method", "GET"), (":path", "/callout"), (":authority", "probe")];
                let called = self.dispatch_http_call("nowhere", headers, None, vec![], Duration::from_secs(5));
                match (called, path.as_str()) {
                    (Err(why), "/call-nowhere") => error!("the call failed: {why:?}"),
                    (Err(why), "/call-nowhere-and-panic") => panic!("the call failed: {why:?}"),
                    _ => return Action::Pause,
                }
            }
            "/hold" => {
                let headers = vec![(":method", "GET"), (":path", "/callout"), (":authority", "probe")];
                let _ = self.dispatch_http_call("upstream", headers, None, vec![], Duration::from_secs(5));
                return Action::Pause;
            }
            _ => info!("saw {path}"),
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.add_http_request_trailer("x-added", "by the plugin");
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.add_http_response_trailer("x-added", "by the plugin");
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        assert!(!self.panics_later, "asked to panic on the way back");
        self.set_http_response_header("x-configuration", Some(&self.configuration));
        if self.pauses_later {
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.shortens {
            self.set_http_response_body(0, 1, b"");
        }
        if self.lengthens && end_of_stream {
            self.set_http_response_body(size, 0, b"0123456789");
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        info!("on_log");
    }
}
