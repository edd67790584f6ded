"""SIGTERM as a wish."""

import signal
import subprocess
import sys
import threading

from fusion.io.end_request import asked_to_end


def test_a_first_sigterm_is_a_wish() -> None:
    with asked_to_end() as end_is_wanted:
        before = end_is_wanted()
        signal.raise_signal(signal.SIGTERM)
        after = end_is_wanted()

    assert (before, after) == (False, True)


def test_the_handler_of_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with asked_to_end():
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_sigterm_ends_the_process() -> None:
    program = (
        "import signal; from fusion.io.end_request import asked_to_end\n"
        "with asked_to_end() as wanted:\n"
        "    signal.raise_signal(signal.SIGTERM); assert wanted(); signal.raise_signal(signal.SIGTERM)\n"
        "raise SystemExit(7)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGTERM


def test_outside_the_main_thread_nothing_is_heard() -> None:
    heard = []

    def listen() -> None:
        with asked_to_end() as end_is_wanted:
            heard.append(end_is_wanted())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()

    assert heard == [False]
