import threading

import pytest

from scaffold.core.events import (
    Failed,
    Finished,
    Noted,
    Prompt,
    Question,
    Started,
    ask,
    emit,
    listening,
    prompt,
    step,
)


def test_every_listener_hears_in_order_and_only_while_it_listens():
    first, second = [], []
    with listening(first.append):
        emit(Noted("one"))
        with listening(second.append):
            emit(Noted("two"))
        emit(Noted("three"))
    emit(Noted("four"))
    assert first == [Noted("one"), Noted("two"), Noted("three")]
    assert second == [Noted("two")]


def test_a_listener_stops_hearing_when_its_block_fails():
    heard = []
    with pytest.raises(RuntimeError), listening(heard.append):
        raise RuntimeError
    emit(Noted("too late"))
    assert heard == []


def test_threads_are_heard_too():
    heard = []
    with listening(heard.append):
        thread = threading.Thread(target=emit, args=(Noted("from a thread"),))
        thread.start()
        thread.join()
    assert heard == [Noted("from a thread")]


def test_the_first_answer_counts():
    with listening(lambda _: None), listening(lambda _: False), listening(lambda _: True):
        assert emit(Question("may we?")) is False


@pytest.mark.parametrize(("answer", "taken"), [(True, True), (False, False), (None, True)])
def test_a_question_is_answered_by_who_listens(answer, taken):
    with listening(lambda event: answer if event == Question("may we?") else None):
        assert ask("may we?") is taken


def test_with_nobody_there_the_answer_is_yes():
    assert ask("may we?") is True


@pytest.mark.parametrize(
    ("answer", "taken"), [("mine", "mine"), ("", ""), (None, "theirs"), (True, "theirs")]
)
def test_a_value_is_given_by_who_listens(answer, taken):
    with listening(lambda event: answer if event == Prompt("name", "theirs") else None):
        assert prompt("name", "theirs") == taken


def test_with_nobody_there_the_value_is_the_default():
    assert prompt("name", "theirs") == "theirs"


def test_a_step_says_when_it_begins_and_how_long_it_took():
    heard = []
    with listening(heard.append), step("Building"):
        assert heard == [Started("Building")]
    begun, done = heard
    assert begun == Started("Building")
    assert isinstance(done, Finished)
    assert (done.title, 0 <= done.seconds < 1) == ("Building", True)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_step_that_fails_says_so_and_lets_the_error_through(error):
    heard = []
    with pytest.raises(error), listening(heard.append), step("Building"):
        raise error
    assert heard == [Started("Building"), Failed("Building")]


def test_a_listener_may_leave_while_events_go_round():
    heard = []

    def leaves(event):
        with listening(heard.append):
            pass
        heard.append(event)

    with listening(leaves):
        emit(Noted("one"))
    assert heard == [Noted("one")]
