"""Which crates a source without a Cargo.toml uses."""

from __future__ import annotations

import pytest

from scaffold.commands.adopt import used_crates


@pytest.mark.parametrize(
    ("source", "crates"),
    [
        ("use log::info;", ["log"]),
        ("use {log::{info, warn}, proxy_wasm::traits::*};", ["log", "proxy_wasm"]),
        ("use ::serde::Deserialize;", ["serde"]),
        (
            "extern crate a_b; extern crate serde_json as json; fn f() { json::from_str(x) }",
            ["a_b", "serde_json"],
        ),
        ('fn f() { log::info!("a::b"); }', ["log"]),
        ("#[derive(serde::Serialize)] struct A;", ["serde"]),
        ("use std::time::Duration; use core::fmt; use alloc::vec; fn f() { fmt::write() }", []),
        ("use self::a; use super::b; use crate::c; mod d; mod e { } fn f() { d::g(); e::h(); }", []),
        ("fn f() { u32::MAX; str::from_utf8(x); f64::from(1); }", []),
        ("use regex::bytes; fn f() { bytes::Regex::new(x) }", ["regex"]),
        ("use base64::{self, engine::Engine as _}; fn f() { base64::encode(x) }", ["base64"]),
        ("use Action::Continue; fn f() { Vec::<u8>::new(); Self::g(); T::h() }", []),
        ('// use regex;\nfn f() { "use rand::x;"; a.b::<c>(); }', []),
        ("macro_rules! m { () => { $crate::f() } }", []),
    ],
)
def test_the_crates_are_those_that_no_module_and_no_use_explains(source, crates):
    assert used_crates.find([source]) == crates


def test_the_modules_of_one_file_are_known_in_the_others():
    assert used_crates.find(["mod a; mod b;", "use a::x; use b::y; use log::z;"]) == ["log"]
