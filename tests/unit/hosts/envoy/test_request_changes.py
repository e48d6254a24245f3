"""Where the filters go that record what plugins change."""

from __future__ import annotations

import copy

from scaffold.hosts.envoy import request_changes
from scaffold.hosts.envoy.resources import HTTP_MANAGER, TCP_PROXY, access_log

SLOTS = {"scaffold", "scaffold-2"}


def bootstrap(*ends, lone=False):
    filters = [{"name": "end", "typed_config": end} for end in ends]
    chain = {"filters": filters[0] if lone else filters}
    listener = {"filter_chains": chain if lone else [chain]}
    return {"static_resources": {"listeners": listener if lone else [listener]}}


def names(manager):
    return [each["name"] for each in manager["http_filters"]]


def manager(*filters):
    return {"@type": HTTP_MANAGER, "http_filters": [{"name": name} for name in filters]}


def test_one_goes_before_the_first_plugin_and_one_after_the_last():
    own = manager("cors", "scaffold", "theirs", "scaffold-2", "router")
    request_changes.record(bootstrap(own), SLOTS)
    around = ["scaffold-before", "scaffold", "theirs", "scaffold-2", "scaffold-after"]
    assert names(own) == ["cors", *around, "router"]
    before, after = (
        each["typed_config"]["default_source_code"]["inline_string"].splitlines()[0]
        for each in own["http_filters"]
        if "typed_config" in each
    )
    assert (before, after) == ("local FIRST = true", "local FIRST = false")


def test_a_manager_without_plugins_stays_as_it_is():
    other = manager("cors", "router")
    before = copy.deepcopy(other)
    request_changes.record(bootstrap(other), SLOTS)
    assert other == before


def test_our_access_log_gets_more_fields_and_the_users_own_stays():
    theirs = access_log("/theirs")
    fields = theirs["typed_config"]["log_format"]["json_format"]
    fields["time"] = "mine"
    before = dict(fields)
    for end in (manager("scaffold", "router"), {"@type": TCP_PROXY}):
        end["access_log"] = [theirs, {"name": "plain", "typed_config": {}}, access_log("/ours")]
        request_changes.record(bootstrap(end), SLOTS)
        assert fields == before
        ours = end["access_log"][-1]["typed_config"]["log_format"]["json_format"]
        assert "%DYNAMIC_METADATA(scaffold)%" in ours.values()
        assert ours["ended"].startswith("%EMIT_TIME(")


def test_lone_objects_are_lists_of_one():
    own = manager("scaffold", "router")
    request_changes.record(bootstrap(own, lone=True), SLOTS)
    assert names(own) == ["scaffold-before", "scaffold", "scaffold-after", "router"]


def test_lone_filters_and_logs_are_lists_of_one_too():
    own = {"@type": HTTP_MANAGER, "http_filters": {"name": "scaffold"}, "access_log": {"name": "plain"}}
    request_changes.record(bootstrap(own), SLOTS)
    assert names(own) == ["scaffold-before", "scaffold", "scaffold-after"]


def test_a_bootstrap_without_listeners():
    for given in ({}, {"static_resources": None}):
        before = copy.deepcopy(given)
        request_changes.record(given, SLOTS)
        assert given == before
