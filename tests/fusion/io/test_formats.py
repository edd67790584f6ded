"""What one stage writes, the next one reads."""

from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InfrastructureError
from fusion.io.captures import Capture, read_capture, shard_folder, write_capture
from fusion.io.lessons import Lessons, read_lessons, write_lessons
from fusion.io.tensors import smallest_id_dtype
from fusion.io.windows import Window, iter_split, list_shards, read_windows, windows_path, write_windows


def small_capture() -> Capture:
    top_logprobs = np.array([[-0.1, -2.5], [np.nan, np.nan], [-0.2, -1.9]], np.float16)
    return Capture(
        window_starts=np.array([0, 2, 2, 3], np.int64),
        ends=np.array([0, 4, 0], np.uint32),
        next_ids=np.array([7, -1, 3], np.int32),
        next_logprobs=np.array([-0.1, np.nan, -0.2], np.float32),
        top_ids=np.array([[7, 2], [0, 0], [3, 1]], np.uint16),
        top_logprobs=top_logprobs,
        tail_logprobs=np.array([-5, np.nan, -6], np.float16),
        sample_ids=np.zeros((3, 0), np.uint16),
    )


def test_windows_come_back_with_any_text(tmp_path: Path) -> None:
    windows = [
        Window(document=0, domain="code", text="a\r\n\tb\x00 ", ends_document=False),
        Window(document=0, domain="code", text="é👩‍🚀", ends_document=True),
    ]
    write_windows(windows_path(tmp_path, "train", 0), windows)
    assert read_windows(windows_path(tmp_path, "train", 0)) == windows
    assert list_shards(tmp_path, "train") == [0]
    assert list(iter_split(tmp_path, "train")) == windows


def test_a_capture_comes_back_and_knows_its_windows(tmp_path: Path) -> None:
    capture = small_capture()
    write_capture(shard_folder(tmp_path, 3), capture, meta={"subject": "a"})
    found = read_capture(tmp_path / "shard-00003")
    for name in Capture.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(capture, name))
    assert found.rows_of(1) == slice(2, 2)
    assert found.quarantined.tolist() == [False, True, False]


def test_the_same_capture_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / name, small_capture(), meta={})
    files = [(tmp_path / name / "capture.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_lessons_come_back_and_a_capture_is_no_lesson(tmp_path: Path) -> None:
    lessons = Lessons(
        window_starts=np.array([0, 3], np.int64),
        token_ids=np.array([1, 5, 2], np.int32),
        row_starts=np.array([0, 2, 2, 2], np.int64),
        entry_ids=np.array([5, 6], np.int32),
        entry_weights=np.array([0.75, 0.125], np.float16),
        tails=np.array([0.125, 0, 0], np.float16),
        speakers=np.array([0, -1, -1], np.int8),
        rivals=np.array([0, 0, -1], np.int8),
        rival_nats=np.array([1.5, 0.5, 0], np.float16),
    )
    write_lessons(tmp_path / "l", lessons, meta={})
    write_capture(tmp_path / "c", small_capture(), meta={})
    np.testing.assert_array_equal(read_lessons(tmp_path / "l").entry_weights, lessons.entry_weights)
    with pytest.raises(InfrastructureError, match="expected 'lessons'"):
        read_lessons(tmp_path / "c")


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_the_smallest_type(size: int, dtype: type) -> None:
    assert smallest_id_dtype(size) is dtype
