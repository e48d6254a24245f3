"""The faults that tests elsewhere inject already: rows of the table that point to them by name."""

from __future__ import annotations

_DEPLOY = "tests/e2e/test_deploy.py"
_BAD = "tests/e2e/test_bad_input.py"

# fault, injected how, seen, and where
ELSEWHERE = [
    ("R1", "`new`: six moments while the files are written", "whole or absent", "tests/test_templates.py",
     "test_whenever_it_is_ended_the_folder_is_whole_or_absent"),
    ("R2", "set-up: killed in update, download, unpack", "the next completes it",
     "tests/toolchain/test_private.py", "test_killed_at_any_moment_it_can_be_run_again"),
    ("R2", "set-up, the real one: killed twice, then run as two", "there once",
     "tests/toolchain/test_private_e2e.py", "test_killed_twice_and_run_as_two_it_is_there_once"),
    ("R2", "files.write, files.tree: killed at random", "whole or absent", "tests/test_files.py",
     "test_whenever_it_is_killed_the_tree_is_whole_or_absent"),
    ("R5", "files.write: RLIMIT_FSIZE", "the old file stays", "tests/test_files.py",
     "test_a_full_disk_leaves_the_old_file_and_nothing_else"),
    ("R6", "`new`: a HOME that isn't there, or a file", "not needed", "tests/test_templates.py",
     "test_home_is_neither_needed_nor_heeded_nor_written"),
    ("R6", "`new`: an output folder that is read-only", "exit code 4, named", "tests/test_templates.py",
     "test_a_folder_that_may_not_be_written_is_the_machines_fault"),
    ("R6", "files.lock: a read-only disk, another user's folder", "exit code 4, named", "tests/test_files.py",
     "test_a_lock_on_a_read_only_disk_is_the_machines_fault"),
    ("R7", "a lock's holder is killed", "the next goes on", "tests/test_files.py",
     "test_a_second_process_waits_says_so_and_goes_on_when_the_first_is_killed"),
    ("R9", "Ctrl-C in a terminal at random moments of build, run, deploy, test", "all gone; again succeeds",
     _BAD, "test_ctrl_c_leaves_nothing_and_the_same_again_succeeds"),
    ("R10", "SIGKILL of run", "Envoy gone within 3 s", "tests/e2e/test_run.py",
     "test_kill_9_takes_envoy_along"),
    ("R10", "SIGKILL of a deployment's supervisor", "Envoy gone within 3 s", _DEPLOY,
     "test_envoy_dies_with_its_supervisor_and_deploy_begins_anew"),
    ("R10", "SIGKILL of ours: children, grandchildren, from threads", "all gone within 3 s",
     "tests/test_process.py", "test_what_we_started_ends_with_us_however_we_end"),
    ("R11", "a deployment meets `loop {}`", "one life of Envoy, `logs` names the watchdog", _DEPLOY,
     "test_a_looping_filter_costs_one_life_of_envoy"),
    ("R14", "modules: empty, text, ELF, cut, component, no marker", "exit code 6, reason and byte", _BAD,
     "test_a_module_that_no_host_loads"),
    ("R15", "a port that a stranger has", "exit code 8, names the pid", _BAD,
     "test_a_port_that_a_stranger_has"),
    ("R15", "a port that another deployment has", "exit code 8, names the project", _BAD,
     "test_a_port_that_our_own_deployment_has"),
    ("R16", "Envoy is killed after a refused module", "runs again with the last accepted one", _DEPLOY,
     "test_an_envoy_that_was_killed_is_started_again_and_the_log_says_so"),
    ("R19", "a pid that belongs to a stranger now", "never ended", _DEPLOY,
     "test_a_pid_that_belongs_to_another_process_now_is_never_ended"),
    ("R20", "names of crates: keywords, bytes, any text", "taken, or another is offered",
     "tests/test_templates.py", "test_whatever_is_typed_is_taken_or_answered_with_a_name_that_would_be"),
]  # fmt: skip
