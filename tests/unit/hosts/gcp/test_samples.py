"""Suites like those beside Google's samples, written again: headers in three ways, chunks, YAML.

The plugins are ours, and do what the samples' say.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import OUT, SIZE, Wat, pairs

from scaffold.hosts.gcp.tester import GcpTester
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites import suite as suites
from scaffold.wasm.module import WasmModule

HEADERS = r"""
env {
  log_level: DEBUG  # --loglevel
  time_secs: 1234567890  # the clock
}
test {
  name: "Fields"
  request_headers {
    input {
      header { key: ":path" value: "/" }
      header { key: ":method" value: "GET" }
    }
    result {
      # twice the same, in two ways
      has_header { key: ":method" value: "GET" }
      headers { exact: ":method: GET" }
      no_header { key: ":scheme" }
      headers { regex: ":scheme:.*" invert: true }
      log { regex: ".*request headers.*" }
      log { regex: ".*response headers.*" invert: true }
    }
  }
  response_headers {
    input {
      header { key: "message" value: "welcome" }
      header { key: "fail" value: "yes" }
    }
    result {
      immediate { http_status: 500 }
      body { exact: "an error" }
      has_header { key: "error" value: "goaway" }
      no_header { key: "message" }
      log { regex: ".*frozen" }
    }
  }
}
test {
  name: "Text"
  request_headers {
    input {
      content:
        "GET /my/path?a=b HTTP/1.1\n"
        "Host: a.example\n"
        "Mine: 1\n"
        "Mine: 2\n"
    }
    result {
      has_header { key: ":path" value: "/my/path?a=b" }
      has_header { key: ":authority" value: "a.example" }
      no_header { key: "Host" }
      has_header { key: "Mine" value: "1, 2" }
    }
  }
  response_headers {
    input { content: "HTTP/1.1 200 OK\nContent-Type: image/png; charset=utf-8\nMine: 1\nMine: 2\n" }
    result { has_header { key: ":status" value: "200" } has_header { key: "Mine" value: "1, 2" } }
  }
}
test {
  name: "File"
  request_headers {
    input { file: "request.data" }
    result {
      has_header { key: ":scheme" value: "https" }
      has_header { key: ":authority" value: "a.example:8080" }
      no_header { key: "Host" }
    }
  }
}
"""
HEADERS_IN_YAML = """
env: {log_level: DEBUG, time_secs: 1234567890}
test:
- name: Fields
  request_headers:
    input:
      header:
      - key: :path
        value: /
      - key: :method
        value: GET
    result:
      has_header:
      - key: :method
        value: GET
      headers:
      - exact: ':method: GET'
      - regex: :scheme:.*
        invert: 'true'
      log:
      - regex: .*request headers.*
  response_headers:
    input:
      header:
      - key: fail
        value: 'yes'
    result:
      immediate:
        http_status: 500
      body:
      - exact: an error
      log:
      - regex: .*frozen
- name: Text
  request_headers:
    input:
      content: 'GET /my/path?a=b HTTP/1.1

        Host: a.example

        '
    result:
      has_header:
      - key: :authority
        value: a.example
"""
CHUNKS = """
test {
  name: "Number, from a file to a file"
  num_chunks: 5
  request_body { input { file: "body.data" } result { body { file: "expected.data" } } }
  response_body { input { content: "0987654321" } result { body { exact: "09bar87bar65bar43bar21bar" } } }
}
test {
  name: "Size"
  chunk_size: 4
  request_body { input { content: "1234567890" } result { body { regex: "1234foo5678foo90foo" } } }
}
test {
  name: "As it comes"
  request_body { input { content: "12" } result { body { exact: "12foo" } } }
  request_body { input { content: "34" } result { body { exact: "34foo" } } }
}
"""


def plugin() -> bytes:
    wat = Wat()
    says = [wat.call("proxy_log", 2, f"the {kind} headers".encode()) for kind in ("request", "response")]
    reply = wat.call("proxy_send_local_response", 500, b"", b"an error", pairs((b"error", b"goaway")), 0)
    asks = wat.call("proxy_get_header_map_value", 2, b"fail", OUT, SIZE)
    now = wat.call("proxy_get_current_time_nanoseconds", OUT)
    frozen = f"(i64.eq (i64.load (i32.const {OUT})) (i64.const {1234567890 * 10**9}))"
    answer = (
        f"{says[1]} {now} (if {frozen} (then {wat.call('proxy_log', 2, b'the time is frozen')}))"
        f" (i32.store (i32.const {SIZE}) (i32.const 0)) {asks}"
        f" (if (i32.load (i32.const {SIZE})) (then {reply}))"
    )
    callbacks = {"request_headers": says[0], "response_headers": answer}
    callbacks["request_body"] = wat.call("proxy_set_buffer_bytes", 0, 1 << 20, 0, b"foo")
    callbacks["response_body"] = wat.call("proxy_set_buffer_bytes", 1, 1 << 20, 0, b"bar")
    return wat.module({f"proxy_on_{name}": text for name, text in callbacks.items()})


@pytest.mark.parametrize(
    ("name", "content"),
    [("headers.textpb", HEADERS), ("headers.yaml", HEADERS_IN_YAML), ("chunks.textproto", CHUNKS)],
)
def test_a_sample_passes(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "plugin.wasm").write_bytes(plugin())
    (tmp_path / "request.data").write_bytes(
        b"GET https://a.example:8080/my/path HTTP/1.1\r\nHost: b.example\r\n"
    )
    (tmp_path / "body.data").write_bytes(b"1234567890")
    (tmp_path / "expected.data").write_bytes(b"12foo34foo56foo78foo90foo")
    (tmp_path / name).write_text(content)
    suite = suites.read(tmp_path / name, tmp_path)
    tester = GcpTester(Plugin("wat", "", WasmModule.read(tmp_path / "plugin.wasm")), suite)
    failures = [line for case in suite.cases for each in tester.play(case).failures for line in each.lines()]
    assert failures == []
    assert len(suite.cases) >= 2
