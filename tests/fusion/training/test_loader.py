"""The reader gives back what `align` wrote, window by window, whatever the shard."""

import numpy as np
import pytest

from fusion.errors import CorpusInvalid, InfrastructureError
from fusion.io.captures import shard_folder
from fusion.training import loader
from fusion.training.loader import LessonReader
from tests.fusion.training.lessons import make_lessons, write_align_folder


def test_reads_windows_of_all_shards_in_order(tmp_path):
    shards = [make_lessons([5, 9], seed=1), make_lessons([7], seed=2)]
    reader = LessonReader(write_align_folder(tmp_path / "align", shards))

    sequence = reader.read(1)

    assert reader.num_tokens_of.tolist() == [5, 9, 7]
    rows = slice(5, 14)
    entries = slice(shards[0].row_starts[5], shards[0].row_starts[14])
    np.testing.assert_array_equal(sequence.token_ids_T, shards[0].token_ids[rows])
    np.testing.assert_array_equal(sequence.entry_ids_E, shards[0].entry_ids[entries])
    np.testing.assert_array_equal(sequence.entry_weights_E, shards[0].entry_weights[entries])
    np.testing.assert_array_equal(sequence.tails_T, shards[0].tails[rows])
    assert sequence.entry_counts_T.sum() == len(sequence.entry_ids_E)
    np.testing.assert_array_equal(reader.read(2).token_ids_T, shards[1].token_ids)


def test_windows_without_a_next_token_are_left_out(tmp_path):
    reader = LessonReader(write_align_folder(tmp_path / "align", [make_lessons([0, 6, 1, 4])]))

    assert reader.num_tokens_of.tolist() == [6, 4]


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "_MAX_OPEN_SHARDS", 2)
    shards = [make_lessons([4 + number], seed=number) for number in range(4)]
    reader = LessonReader(write_align_folder(tmp_path / "align", shards))

    lengths = [len(reader.read(number).token_ids_T) for number in (3, 0, 1, 2, 0)]

    assert lengths == [7, 4, 5, 6, 4]


def test_nothing_to_train_on_names_the_corpus(tmp_path):
    folder = write_align_folder(tmp_path / "align", [make_lessons([0, 1])])

    with pytest.raises(CorpusInvalid) as caught:
        LessonReader(folder)

    assert caught.value.pointer == "/corpus"


def test_unfinished_shard_is_refused(tmp_path):
    folder = write_align_folder(tmp_path / "align", [make_lessons([5])])
    (shard_folder(folder, 0) / "manifest.json").unlink()

    with pytest.raises(InfrastructureError):
        LessonReader(folder)


def test_without_entries_only_the_tokens_are_read(tmp_path):
    lessons = make_lessons([5, 9])
    reader = LessonReader(write_align_folder(tmp_path / "align", [lessons]), with_entries=False)

    sequence = reader.read(1)

    np.testing.assert_array_equal(sequence.token_ids_T, lessons.token_ids[5:])
    assert sequence.entry_counts_T.tolist() == [0] * 9
    assert len(sequence.entry_ids_E) == 0
