"""Processes are named for good, and leaders are found by what they were started with."""

import subprocess
import sys

from app.operations.processes import leaders_given, own_place, start_ticks

WAIT = [sys.executable, "-c", "input()"]


def test_a_process_is_named_by_its_id_and_its_start() -> None:
    process = subprocess.Popen(WAIT, stdin=subprocess.PIPE)
    ticks = start_ticks(process.pid)
    process.communicate(b"\n")

    assert ticks is not None
    assert start_ticks(process.pid) is None


def test_a_leader_is_found_by_an_argument_and_others_are_not() -> None:
    leader = subprocess.Popen([*WAIT, "/some/request.json"], stdin=subprocess.PIPE, start_new_session=True)
    follower = subprocess.Popen([*WAIT, "/some/request.json"], stdin=subprocess.PIPE)

    found = leaders_given("/some/request.json")

    for process in (leader, follower):
        process.communicate(b"\n")
    assert found == [leader.pid]


def test_two_processes_of_a_machine_are_in_one_place() -> None:
    script = "from app.operations.processes import own_place; print(own_place())"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert told.strip() == own_place() != ""
