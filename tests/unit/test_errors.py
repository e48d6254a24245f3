import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold import errors
from scaffold.errors import ScaffoldError, UsageError, choose


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ScaffoldError", 70),
        ("TestsFailed", 1),
        ("UsageError", 2),
        ("ProjectError", 3),
        ("MachineError", 4),
        ("ToolFailed", 5),
        ("ModuleError", 6),
        ("RegistryError", 7),
        ("HostError", 8),
        ("TargetError", 9),
    ],
)
def test_the_exit_codes_that_scripts_rely_on(error, code):
    assert getattr(errors, error).exit_code == code


def test_an_error_carries_its_sentence_and_what_to_type_next():
    error = ScaffoldError("the sky fell", hint="buy an umbrella")
    assert (str(error), error.message, error.hint) == ("the sky fell", "the sky fell", "buy an umbrella")


def test_a_hint_is_optional():
    assert ScaffoldError("the sky fell").hint is None


def test_choose_finds_what_is_there():
    assert choose("host", "envoy", {"envoy": 1, "docker": 2}) == 1


def test_choose_suggests_the_nearest():
    with pytest.raises(UsageError) as caught:
        choose("host", "envoi", {"envoy": 1, "docker": 2})
    assert caught.value.message == "no host named `envoi`"
    assert caught.value.hint == "did you mean `envoy`?"


def test_choose_lists_what_there_is_when_nothing_is_near():
    with pytest.raises(UsageError) as caught:
        choose("target", "moon", {"istio": 1, "envoy": 2})
    assert caught.value.message == "no target named `moon`"
    assert caught.value.hint == "known: envoy, istio"


@given(st.text(), st.dictionaries(st.text(), st.integers()))
def test_choose_answers_or_explains_whatever_it_is_asked(name, table):
    try:
        assert choose("thing", name, table) == table[name]
    except UsageError as error:
        assert name not in table
        assert error.hint


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 8, 9])
def test_an_exit_code_leads_back_to_its_error(code):
    kind = errors.of_exit_code(code)
    assert (kind.exit_code, kind.__module__) == (code, "scaffold.errors")


@pytest.mark.parametrize("code", [70, 77, -9])
def test_an_exit_code_of_nobody_is_a_bug(code):
    assert errors.of_exit_code(code) is ScaffoldError
