"""Secrets are taken out of what a process prints."""

import io
import subprocess
import sys

from fusion.scrubbing import SCRUBBED, ScrubbedStream, Scrubber


def test_every_occurrence_goes_and_nothing_else() -> None:
    scrubber = Scrubber(["abc", "abcdef"])

    assert scrubber.scrub("x abcdef abc, ab") == f"x {SCRUBBED} {SCRUBBED}, ab"
    assert Scrubber([]).scrub("abc") == "abc"


def test_a_stream_passes_on_what_is_left() -> None:
    target = io.StringIO()
    stream = ScrubbedStream(target, Scrubber(["abc"]))

    stream.writelines(["1 abc\n", "2 ab\n"])

    assert target.getvalue() == f"1 {SCRUBBED}\n2 ab\n"
    assert stream.isatty() is False


def test_prints_logs_and_tracebacks_of_a_process_are_scrubbed() -> None:
    program = (
        "import logging\n"
        "from fusion.scrubbing import scrubbing_output\n"
        "scrubbing_output(['abc'])\n"
        "print('out abc'); logging.warning('log abc'); raise ValueError('error abc')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.stdout == f"out {SCRUBBED}\n"
    assert f"log {SCRUBBED}" in ran.stderr
    assert f"error {SCRUBBED}" in ran.stderr
    assert "error abc" not in ran.stderr
