//! A service: no request passes it. At every tick it counts and logs, sends itself a message by a queue and asks
//! the upstream.
//!
//! The configuration says what it greets with; `refuse` is refused, `panic` panics at the second tick, and
//! `loop` never comes back from it.

use log::{error, info};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::{LogLevel, MetricType};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Service::default()) });
}}

#[derive(Default)]
struct Service {
    configuration: String,
    ticks: u32,
    counter: u32,
    queue: Option<u32>,
}

impl Context for Service {
    fn on_http_call_response(&mut self, _: u32, _: usize, body_size: usize, _: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        info!("the upstream answered {status} with {body_size} bytes");
    }
}

impl RootContext for Service {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        self.configuration = String::from_utf8_lossy(&bytes).into_owned();
        self.counter = hostcalls::define_metric(MetricType::Counter, "service_ticks").unwrap_or_default();
        self.queue = Some(self.register_shared_queue("service"));
        self.set_tick_period(Duration::from_millis(50));
        if self.configuration == "\"refuse\"" {
            error!("the configuration is refused, as asked");
        }
        self.configuration != "\"refuse\""
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        let _ = hostcalls::increment_metric(self.counter, 1);
        info!("tick {} {}", self.ticks, self.configuration);
        match self.configuration.as_str() {
            "\"panic\"" => assert!(self.ticks < 2, "asked to panic"),
            "\"loop\"" => loop {
                std::hint::black_box(());
            },
            _ => {}
        }
        if self.ticks == 2 {
            if let Some(queue) = self.queue {
                let _ = self.enqueue_shared_queue(queue, Some(b"a message"));
            }
            let headers = vec![(":method", "GET"), (":path", "/headers"), (":authority", "service")];
            let _ = self.dispatch_http_call("upstream", headers, None, vec![], Duration::from_secs(5));
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let message = self.dequeue_shared_queue(queue).ok().flatten().unwrap_or_default();
        info!("got {}", String::from_utf8_lossy(&message));
    }
}
