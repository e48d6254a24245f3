//! Guards TCP connections: by client address, first bytes and amount of data.
//!
//! `guard.rs` decides about a connection, and `cargo test` runs it natively. This file connects it to the
//! proxy's callbacks.

mod config;
mod guard;

use config::Config;
use guard::{Guard, Reason, Verdict};
use log::{error, info, warn};
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// The host's ids of the metrics.
#[derive(Clone, Copy, Default)]
struct Counters {
    connections: u32,
    refused: u32,
    sent: u32,
    received: u32,
}

impl Counters {
    fn define() -> Result<Self, Status> {
        Ok(Self {
            connections: define_metric(MetricType::Counter, "tcp.connections")?,
            refused: define_metric(MetricType::Counter, "tcp.refused")?,
            sent: define_metric(MetricType::Counter, "tcp.bytes_sent")?,
            received: define_metric(MetricType::Counter, "tcp.bytes_received")?,
        })
    }
}

/// Created once per worker thread; creates a context for each connection.
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
        Some(ContextType::StreamContext)
    }

    fn create_stream_context(&self, _context_id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection {
            config: Rc::clone(&self.config),
            counters: self.counters,
            guard: Guard::default(),
            received: 0,
        }))
    }
}

/// One connection of a client, together with its connection to the upstream.
struct Connection {
    config: Rc<Config>,
    counters: Counters,
    guard: Guard,
    received: u64,
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        count(self.counters.connections, 1);
        let peer = self
            .get_property(vec!["source", "address"])
            .unwrap_or_default();
        if !Guard::admit(&self.config, &peer) {
            return self.close(Reason::Peer);
        }
        Action::Continue // a pause would never end: Envoy reads nothing until it is connected to the upstream
    }

    fn on_downstream_data(&mut self, size: usize, end_of_stream: bool) -> Action {
        let first = self.get_downstream_data(0, size.min(Guard::looks_at(&self.config)));
        let first = first.unwrap_or_default();
        match self.guard.judge(&self.config, &first, size, end_of_stream) {
            Verdict::Pass => {
                count(self.counters.sent, size);
                Action::Continue
            }
            Verdict::Wait => Action::Pause, // they come again, together with the next ones
            Verdict::Close(reason) => self.close(reason),
        }
    }

    fn on_upstream_data(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.received = self.received.saturating_add(size as u64);
        count(self.counters.received, size);
        Action::Continue
    }

    fn on_log(&mut self) {
        let (sent, received) = (self.guard.sent(), self.received);
        info!("the connection has ended: {sent} bytes sent, {received} received");
    }
}

impl Connection {
    fn close(&self, reason: Reason) -> Action {
        count(self.counters.refused, 1);
        warn!("closing the connection: {reason}");
        self.close_downstream();
        Action::Pause
    }
}

fn count(counter: u32, by: usize) {
    let by = i64::try_from(by).unwrap_or(i64::MAX);
    if by > 0 && increment_metric(counter, by).is_err() {
        warn!("the host can't count");
    }
}
