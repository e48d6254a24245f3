//! Chooses the cluster of each request by rules, and asks on a timer for newer ones.
//!
//! Which rule a request follows is in `rules.rs`, which `cargo test` runs natively. Here the proxy's
//! callbacks are handed to it.

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

/// How long the service of the rules may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer with rules that is read, in bytes.
const LONGEST_RULES: usize = 1024 * 1024;

/// What decides, each with the host's number of the metric that counts its requests.
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
                .map_err(|status| format!("the host defines no metrics: {status:?}"))
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

/// Made once a worker thread; makes a context for each request.
#[derive(Default)]
struct Root {
    config: Config,
    table: Rc<Table>,
    /// What the service of the rules answered last.
    answer: Vec<u8>,
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let given = self.get_plugin_configuration().unwrap_or_default();
        let read = Config::parse(&given);
        let made = read.and_then(|mut config| Ok((Table::new(&mut config)?, config)));
        match made {
            Ok((table, config)) => {
                // the first time soon, not in here: here it would be asked for by a VM that is only tried out, too
                let soon = config.refresh_seconds.min(1).into();
                self.set_tick_period(Duration::from_millis(soon));
                self.table = Rc::new(table);
                self.config = config;
                self.answer = vec![];
                true
            }
            Err(reason) => {
                error!("the configuration can't be used: {reason}");
                false
            }
        }
    }

    /// Ask for the rules, and again after a while.
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
            warn!("`{cluster}` can't be asked for rules: {status:?}");
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
    /// The rules have come. What is wrong with them, or with the call, leaves those that there are.
    fn on_http_call_response(
        &mut self,
        _token: u32,
        _headers: usize,
        body: usize,
        _trailers: usize,
    ) {
        if let Err(reason) = self.renew(body) {
            warn!("the rules stay as they are: {reason}");
        }
    }
}

impl Root {
    /// Have the rules of an answer decide, unless it is the one of last time.
    fn renew(&mut self, body: usize) -> Result<(), String> {
        let status = self
            .get_http_call_response_header_bytes(":status")
            .unwrap_or_default();
        if status != b"200" {
            let status = std::str::from_utf8(&status).unwrap_or_default();
            return Err(format!("the answer is {status}"));
        }
        if body > LONGEST_RULES {
            return Err(format!("the answer has {body} bytes"));
        }
        let answer = self
            .get_http_call_response_body(0, body)
            .unwrap_or_default();
        if answer != self.answer {
            let table = Table::new(&mut self.config.renewed(&answer)?)?;
            info!("{} rules from now on", table.rules.len());
            self.table = Rc::new(table);
            self.answer = answer;
        }
        Ok(())
    }
}

/// One request, on its way to a cluster.
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
        // this takes the place of whatever the client sent; and the proxy looks for a route anew
        let cluster = Some(cluster.as_str()).filter(|cluster| !cluster.is_empty());
        self.set_http_request_header(header, cluster);
        if let Err(status) = increment_metric(counter, 1) {
            warn!("the host doesn't count: {status:?}");
        }
        Action::Continue
    }
}

impl rules::Request for Routed {
    // as bytes: the getters that return strings panic on a header that isn't UTF-8
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.get_http_request_header_bytes(name)
    }

    // not the context's own method, which panics where the host says no
    fn property(&self, path: Vec<&str>) -> Option<Vec<u8>> {
        get_property(path).ok().flatten()
    }
}
