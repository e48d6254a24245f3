//! A plugin that tries what a plugin can't do: the request's path chooses, and the answer or the log says how it went.

use log::info;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        info!("configured");
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { path: String::new() }))
    }
}

struct Stream {
    path: String,
}

impl Stream {
    fn answer(&self, lines: &[String]) {
        self.send_http_response(200, vec![], Some(lines.join("\n").as_bytes()));
    }
}

/// "worked", or why it didn't.
fn outcome<T, E: Debug>(what: &str, result: Result<T, E>) -> String {
    match result {
        Ok(_) => format!("{what}: worked"),
        Err(error) => format!("{what}: {error:?}"),
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        info!("request headers of {}", self.path);
        match self.path.as_str() {
            "/system" => self.answer(&[
                outcome("read a file", std::fs::read("/etc/hostname")),
                outcome("write a file", std::fs::write("/tmp/x", "x")),
                outcome("connect", std::net::TcpStream::connect("127.0.0.1:80")),
                outcome("listen", std::net::TcpListener::bind("127.0.0.1:0")),
                outcome("start a thread", std::thread::Builder::new().spawn(|| ())),
                outcome("start a program", std::process::Command::new("true").spawn()),
                outcome(
                    "tell the time",
                    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(1 << 30)),
                ),
                format!("variables: {}", std::env::vars().count()),
                format!("arguments: {}", std::env::args().count()),
            ]),
            "/sleep" => std::thread::sleep(Duration::from_millis(1)),
            "/catch" => {
                let _ = std::panic::catch_unwind(|| panic!("caught?"));
            }
            "/call" => {
                let head = vec![(":method", "GET"), (":path", "/"), (":authority", "example.com")];
                let called = self.dispatch_http_call("https://example.com", head, None, vec![], Duration::from_secs(1));
                self.answer(&[outcome("call", called)]);
            }
            "/names" => {
                let headers = self.get_http_request_headers().into_iter();
                self.answer(&headers.map(|(name, _)| name).collect::<Vec<String>>());
            }
            "/own" => {
                self.set_http_request_header("x-envoy-expected-rq-timeout-ms", Some("1"));
            }
            _ => (),
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, _: usize, end_of_stream: bool) -> Action {
        match (self.path.as_str(), end_of_stream) {
            ("/hold-request", false) => Action::Pause,
            _ => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        info!("response headers of {}", self.path);
        match self.path.as_str() {
            "/late" => info!("read {:?}", self.get_http_request_header("host")),
            "/own" => {
                self.set_http_response_header("server", Some("mine"));
                self.set_http_response_header("date", None);
                self.set_http_response_header("connection", Some("x-mine"));
            }
            "/many" => {
                let mut headers = self.get_http_response_headers();
                headers.extend((0..1024).map(|number| (format!("x-{number}"), String::from("x"))));
                self.set_http_response_headers(headers.iter().map(|(name, value)| (&**name, &**value)).collect());
            }
            _ => (),
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        match self.path.as_str() {
            "/longer" if !end_of_stream => self.set_http_response_body(0, size, &[b'x'; 10_000]),
            "/late-answer" => self.send_http_response(403, vec![], Some(b"no")),
            path if path.starts_with("/bytes/") && !end_of_stream => return Action::Pause,
            _ => (),
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        info!("on_log of {}", self.path);
        if self.path == "/log" {
            self.set_http_response_header("x-late", Some("1"));
        }
    }
}
