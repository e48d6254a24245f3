//! Does nothing yet. Put decisions into plain functions, which `cargo test` runs natively, and call them from
//! the proxy's callbacks: those of `HttpContext` have defaults that let everything pass.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

/// Created once per worker thread; creates a context for each request.
struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter))
    }
}

/// One request and its response.
struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {}
