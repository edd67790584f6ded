"""Headers of safetensors files that lie are refused, or say nothing that is not so; nothing crashes."""

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.errors import ModelUnusable
from fusion.llms.loading import load_model
from fusion.llms.weight_files import WEIGHTS_NAME, count_weights, weight_files
from tests.support.tiny_models import save_tiny_checkpoint

NUM_FILES = int(os.environ.get("FUSION_TEST_WEIGHT_FILES", "2000"))
NUM_LOADED = 25
Header = dict[str, Any]
_HUGE = (-1, 0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30)
_SHAPES = ([], [-1], [0], [2**63], [2**32, 2**32], ["x"], [1.5], None, {}, [1] * 100_000)
_TYPES = ("F64", "F16", "BF16", "I64", "U8", "BOOL", "F4", "F8_E4M3", "C64", "X", "", None, 5)
_NO_HEADERS = ([], {}, "x", 5, None, {"__metadata__": 5}, {"a": "b"}, {"__metadata__": {"a": 5}})


class Mutations:
    """Endless variants of one good file."""

    def __init__(self, good: bytes, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._good = good
        self._start = 8 + int.from_bytes(good[:8], "little")
        self._ways: list[Callable[[], bytes]] = [
            self._bytes_changed, self._cut_off, self._length_lies, self._offsets_lie, self._shape_lies,
            self._type_lies, self._tensors_overlap, self._no_header, self._deep,
        ]  # fmt: skip

    def next(self) -> bytes:
        return self._rng.choice(self._ways)()

    def _bytes_changed(self) -> bytes:
        data = bytearray(self._good)
        for _ in range(self._rng.randint(1, 8)):
            data[self._rng.randrange(self._start)] = self._rng.randrange(256)
        return bytes(data)

    def _cut_off(self) -> bytes:
        return self._good[: self._rng.randrange(len(self._good))]

    def _length_lies(self) -> bytes:
        length = self._rng.choice([*_HUGE[1:7], self._start - 9, self._start - 7, 10**8, 10**8 + 1])
        return length.to_bytes(8, "little") + self._good[8:]

    def _offsets_lie(self) -> bytes:
        header, name = self._header()
        begin, end = header[name]["data_offsets"]
        near = end + self._rng.randint(-9, 9)
        header[name]["data_offsets"] = [
            self._rng.choice([*_HUGE, begin]),
            self._rng.choice([*_HUGE, end, near]),
        ]
        return self._file(header)

    def _shape_lies(self) -> bytes:
        header, name = self._header()
        shape = header[name]["shape"]
        header[name]["shape"] = self._rng.choice([*_SHAPES, [*shape, 1], shape[::-1], [*shape, 2]])
        return self._file(header)

    def _type_lies(self) -> bytes:
        header, name = self._header()
        header[name]["dtype"] = self._rng.choice(_TYPES)
        return self._file(header)

    def _tensors_overlap(self) -> bytes:
        header, name = self._header()
        header[name]["data_offsets"] = header[self._header()[1]]["data_offsets"]
        return self._file(header)

    def _no_header(self) -> bytes:
        return self._file(self._rng.choice(_NO_HEADERS))

    def _deep(self) -> bytes:
        header, _ = self._header()
        nested = "[" * self._rng.choice([10, 1000, 100_000])
        return self._file(json.dumps(header)[:-1] + f',"deep":{nested}}}')

    def _header(self) -> tuple[Header, str]:
        header: Header = json.loads(self._good[8 : self._start])
        return header, self._rng.choice([name for name in header if name != "__metadata__"])

    def _file(self, header: Any) -> bytes:
        written = (header if isinstance(header, str) else json.dumps(header)).encode()
        return len(written).to_bytes(8, "little") + written + self._good[self._start :]


@pytest.mark.timeout(600)
def test_no_file_crashes_whoever_looks_at_it(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed:", seed)
    folder = save_tiny_checkpoint(tmp_path)
    path = folder / WEIGHTS_NAME
    mutations = Mutations(path.read_bytes(), seed=seed)
    found: Counter[str] = Counter()
    for _ in range(NUM_FILES):
        path.write_bytes(data := mutations.next())
        try:
            told = count_weights(weight_files(folder, pointer="/x"), pointer="/x")
        except ModelUnusable as error:
            found[error.code] += 1
            continue
        found["accepted"] += 1
        shapes = [entry["shape"] for name, entry in header_of(data).items() if name != "__metadata__"]
        assert told.num_parameters == sum(math.prod(shape) for shape in shapes)
        assert told.num_parameters <= 8 * len(data)
        if found["accepted"] <= NUM_LOADED:
            loads(folder)

    assert found.keys() == {"weights_damaged", "accepted"}
    assert found["weights_damaged"] > NUM_FILES / 2


def header_of(data: bytes) -> Header:
    header: Header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def loads(folder: Path) -> bool:
    """What the header hides from a look at it, loading finds: names and shapes that no model has."""
    try:
        load_model(folder, dtype="float32", device=torch.device("cpu"))
    except ModelUnusable:
        return False
    return True
