"""The transcripts of Envoy's trace: how it is read, what is masked, and what counts as a difference."""

from __future__ import annotations

import pytest
from support.transcripts import FAILED, Call, Log, Transcript, masked, parse

START = ["[host->vm] proxy_on_context_create(2, 1)", "[host<-vm] proxy_on_context_create return: void"]
HEADERS = [
    "[host->vm] proxy_on_request_headers(2, 6, 1)",
    "[vm->host] env.proxy_get_header_map_value(0, 1050870, 10, 1048460, 1048464)",
    "[host->vm] proxy_on_memory_allocate(15)",
    "[host<-vm] proxy_on_memory_allocate return: 1056896",
    "[vm<-host] env.proxy_get_header_map_value return: 0",
    "[vm->host] env.proxy_log(2, 1056896, 9)",
    "wasm log hello hello: got #2: 7",
    "[vm<-host] env.proxy_log return: 0",
    "[host<-vm] proxy_on_request_headers return: 0",
]
LOGGED = ["[host->vm] proxy_on_log(2)", "[host<-vm] proxy_on_log return: void"]
DONE = ["[host->vm] proxy_on_done(2)", "[host<-vm] proxy_on_done return: 1"]
DROPPED = ("proxy_on_log", "proxy_on_done", "proxy_on_response_headers")


def transcript(*messages: list[str], dropped: tuple[str, ...] = ()) -> Transcript:
    return Transcript.of([parse([line for each in messages for line in each])], dropped)


def test_calls_are_inside_of_each_other():
    (call,) = parse(HEADERS)
    allocated = Call("proxy_on_memory_allocate", ("15",), "1056896")
    read, logged = call.inside
    assert (call.name, call.arguments, call.result) == ("proxy_on_request_headers", ("2", "6", "1"), "0")
    assert isinstance(read, Call)
    assert (read.name, read.inside) == ("env.proxy_get_header_map_value", (allocated,))
    assert logged == Call("env.proxy_log", ("2", "1056896", "9"), "0", (Log("got #2: 7"),))


def test_pointers_ids_and_numbers_in_logs_are_masked():
    (call,) = parse(HEADERS)
    assert list(masked(call).lines()) == [
        "proxy_on_request_headers(<context>, 6, 1) -> 0",
        "  env.proxy_get_header_map_value(0, <pointer>, 10, <pointer>, <pointer>) -> 0",
        "    proxy_on_memory_allocate(15) -> <pointer>",
        "  env.proxy_log(2, <pointer>, <number>) -> 0",
        "    log 'got #<number>: <number>'",
    ]


def test_a_trap_ends_all_that_is_open():
    trap = "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable"
    calls = parse([*HEADERS[:2], trap, *LOGGED])
    assert [(call.name, call.result) for call in calls] == [
        ("proxy_on_request_headers", FAILED),
        ("proxy_on_log", "void"),
    ]
    (inside,) = calls[0].inside
    assert isinstance(inside, Call)
    assert inside.result == FAILED


def test_a_call_that_is_not_back_is_kept():
    assert [call.result for call in parse([*LOGGED, *HEADERS[:2]])] == ["void", ""]


def test_a_return_without_a_call_is_refused():
    with pytest.raises(ValueError, match="proxy_on_log came back without having been called"):
        parse(LOGGED[1:])


def test_an_unknown_function_of_the_host_is_refused():
    with pytest.raises(KeyError, match="proxy_unheard_of"):
        masked(Call("env.proxy_unheard_of", ("1",)))
    with pytest.raises(ValueError, match=r"env\.proxy_log has 2 arguments, not 3"):
        masked(Call("env.proxy_log", ("1", "2")))


def test_pointers_and_ids_are_no_difference_but_values_are():
    other = [line.replace("10568", "20568").replace("#2: 7", "#8: 7") for line in HEADERS]
    assert transcript(START, HEADERS) == transcript(START, other)
    for old, new in (
        ("(2, 6, 1)", "(2, 7, 1)"),
        (" 10, ", " 11, "),
        ("headers return: 0", "headers return: 1"),
    ):
        changed = [line.replace(old, new) for line in HEADERS]
        assert changed != HEADERS
        difference = transcript(START, HEADERS).difference(transcript(START, changed))
        assert any(line.startswith("+") for line in difference.splitlines()[2:])


def test_an_empty_callback_that_the_other_lacks_is_no_difference():
    assert transcript(START, HEADERS, LOGGED, DONE, dropped=DROPPED) == transcript(START, HEADERS)
    assert transcript(START, HEADERS, LOGGED, DONE) != transcript(START, HEADERS)


@pytest.mark.parametrize(
    "busy",
    [
        [DONE[0], "[host<-vm] proxy_on_done return: 0"],
        [LOGGED[0], *HEADERS[5:8], LOGGED[1]],
        ["[host->vm] proxy_on_response_headers(2, 3, 1)", "[host<-vm] proxy_on_response_headers return: 1"],
    ],
    ids=["another result", "it logs", "it pauses"],
)
def test_one_that_does_something_is(busy):
    assert transcript(START, HEADERS, busy, dropped=DROPPED) != transcript(START, HEADERS)


def test_a_call_that_is_left_out_is_a_difference():
    assert transcript(START, HEADERS) != transcript(START, [HEADERS[0], HEADERS[-1]])
    assert transcript(START, HEADERS) != transcript(START)


def test_parts_of_a_body_that_change_nothing_are_left_out():
    def part(size: int, last: int) -> list[str]:
        call = f"[host->vm] proxy_on_request_body(2, {size}, {last})"
        return [call, "[host<-vm] proxy_on_request_body return: 0"]

    assert transcript(START, part(10, 0), part(20, 1)) == transcript(START, part(30, 1))
    assert transcript(START, part(30, 1)) != transcript(START)


def test_what_comes_in_its_own_time_counts_once_and_wherever_it_is():
    tick = ["[host->vm] proxy_on_tick(1)", "[host<-vm] proxy_on_tick return: void"]
    assert transcript(tick, START, HEADERS, tick) == transcript(START, tick, HEADERS)
    assert transcript(START, HEADERS, tick) != transcript(START, HEADERS)
