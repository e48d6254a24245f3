//! Sets a greeting as a request header, and logs how many headers there were.
//!
//! Decisions are made in plain functions, which `cargo test` runs natively. The rest connects them to the
//! proxy's callbacks.

use log::info;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

/// The greeting for a request to `authority`, which doesn't have to be UTF-8.
fn greeting(authority: &[u8]) -> Vec<u8> {
    [b"Hello world from ", authority].concat()
}

/// Created once per worker thread; creates a context for each request.
struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Hello { context_id }))
    }
}

/// One request and its response.
struct Hello {
    context_id: u32,
}

impl Context for Hello {}

impl HttpContext for Hello {
    fn on_http_request_headers(&mut self, num_headers: usize, _end_of_stream: bool) -> Action {
        info!("Got {num_headers} HTTP headers in #{}.", self.context_id);
        // as bytes: the getters that return strings panic on a header that isn't UTF-8
        let authority = self
            .get_http_request_header_bytes(":authority")
            .unwrap_or_default();
        self.set_http_request_header_bytes("x-hello", Some(&greeting(&authority)));
        Action::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::greeting;

    #[test]
    fn greets_the_authority() {
        let text = greeting(b"example.com").escape_ascii().to_string();
        assert_eq!(text, "Hello world from example.com");
    }

    #[test]
    fn greets_an_authority_that_is_not_utf8() {
        let text = greeting(b"\xff").escape_ascii().to_string();
        assert_eq!(text, "Hello world from \\xff");
    }
}
