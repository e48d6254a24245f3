//! Chooses the cluster of each request by rules, and asks regularly for newer rules.
//!
//! `rules.rs` finds the rule for a request, and `cargo test` runs it natively. This file connects it to the
//! proxy's callbacks.

mod config;
mod rules;

use config::{Config, Rule};
use log::{error, info, warn};
use proxy_wasm::hostcalls::{define_metric, get_property, increment_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};
use std::mem::take;
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<Root>::default() });
}}

/// Timeout of the call for newer rules.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest response with rules that is read, in bytes.
const LONGEST_RULES: usize = 1024 * 1024;

/// The rules, each with the host's id of the metric that counts its requests.
#[derive(Default)]
struct Table {
    header: String,
    rules: Vec<(Rule, u32)>,
    otherwise: (String, u32),
}

impl Table {
    fn new(config: &mut Config) -> Result<Self, String> {
        let counter = |name: &str| {
            define_metric(MetricType::Counter, &format!("routing.{name}"))
                .map_err(|status| format!("the host can't define metrics: {status:?}"))
        };
        let mut table = Self {
            header: config.header.clone(),
            rules: vec![],
            otherwise: (take(&mut config.otherwise), counter("otherwise")?),
        };
        for rule in take(&mut config.rules) {
            let number = counter(&rule.name)?;
            table.rules.push((rule, number));
        }
        Ok(table)
    }
}

/// Created once per worker thread; creates a context for each request.
#[derive(Default)]
struct Root {
    config: Config,
    table: Rc<Table>,
    /// The last response with rules.
    answer: Vec<u8>,
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        let read = Config::parse(&bytes);
        let made = read.and_then(|mut config| Ok((Table::new(&mut config)?, config)));
        match made {
            Ok((table, config)) => {
                // not here, but soon: otherwise a VM that the host only tries out would ask as well
                let soon = config.refresh_seconds.min(1).into();
                self.set_tick_period(Duration::from_millis(soon));
                self.table = Rc::new(table);
                self.config = config;
                self.answer = vec![];
                true
            }
            Err(reason) => {
                error!("invalid configuration: {reason}");
                false
            }
        }
    }

    /// Ask for the rules, and set the timer for the next time.
    fn on_tick(&mut self) {
        let cluster = &self.config.refresh_cluster;
        self.set_tick_period(Duration::from_secs(self.config.refresh_seconds.into()));
        let question = vec![
            (":method", "GET"),
            (":path", self.config.refresh_path.as_str()),
            (":authority", cluster.as_str()),
        ];
        let sent = self.dispatch_http_call(cluster, question, None, vec![], PATIENCE);
        if let Err(status) = sent {
            warn!("cannot ask `{cluster}` for rules: {status:?}");
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Routed {
            table: Rc::clone(&self.table),
        }))
    }
}

impl Context for Root {
    /// The response to the call for rules. If it or the call failed, the rules stay as they are.
    fn on_http_call_response(
        &mut self,
        _token: u32,
        _headers: usize,
        body: usize,
        _trailers: usize,
    ) {
        if let Err(reason) = self.renew(body) {
            warn!("keeping the present rules: {reason}");
        }
    }
}

impl Root {
    /// Use the rules in a response, unless it is the same as last time.
    fn renew(&mut self, body: usize) -> Result<(), String> {
        let status = self
            .get_http_call_response_header_bytes(":status")
            .unwrap_or_default();
        if status != b"200" {
            let status = std::str::from_utf8(&status).unwrap_or_default();
            return Err(format!("the response is {status}"));
        }
        if body > LONGEST_RULES {
            return Err(format!("the response has {body} bytes"));
        }
        let answer = self
            .get_http_call_response_body(0, body)
            .unwrap_or_default();
        if answer != self.answer {
            let table = Table::new(&mut self.config.renewed(&answer)?)?;
            info!("using {} new rules", table.rules.len());
            self.table = Rc::new(table);
            self.answer = answer;
        }
        Ok(())
    }
}

/// One request.
struct Routed {
    table: Rc<Table>,
}

impl Context for Routed {}

impl HttpContext for Routed {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let Table {
            header,
            rules,
            otherwise,
        } = &*self.table;
        let fitting = rules.iter().find(|(rule, _)| rules::fits(rule, self));
        let (cluster, counter) = match fitting {
            Some((rule, counter)) => (&rule.cluster, *counter),
            None => (&otherwise.0, otherwise.1),
        };
        // this replaces what the client sent, and makes the proxy choose the route again
        let cluster = Some(cluster.as_str()).filter(|cluster| !cluster.is_empty());
        self.set_http_request_header(header, cluster);
        if let Err(status) = increment_metric(counter, 1) {
            warn!("the host can't count: {status:?}");
        }
        Action::Continue
    }
}

impl rules::Request for Routed {
    // as bytes: the getters that return strings panic on a header that isn't UTF-8
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.get_http_request_header_bytes(name)
    }

    // not the context's own method, which panics if the host refuses
    fn property(&self, path: Vec<&str>) -> Option<Vec<u8>> {
        get_property(path).ok().flatten()
    }
}
