"""The token budget follows from what a probe takes."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

from fusion.extraction.batch_budget import (
    ForwardCost,
    TokenBudget,
    probe_forward_cost,
    tokens_that_fit,
)
from fusion.extraction.capture_plan import CapturePlan
from fusion.extraction.logit_rows import LogitRows
from fusion.extraction.model_run import fit_budget
from fusion.llms.device_memory import DeviceMemory, _cgroup_rooms

CPU = torch.device("cpu")


class FakeMemory:
    """A device whose forward pass takes `per_token` T + `per_pair` T**2 bytes."""

    def __init__(self, *, per_token: int, per_pair: int) -> None:
        self._per_token, self._per_pair = per_token, per_pair
        self.num_tokens = 0

    def free_bytes(self) -> int:
        return 1 << 30

    def peak_bytes(self, work: Callable[[], object]) -> int:
        work()
        return self._per_token * self.num_tokens + self._per_pair * self.num_tokens**2


def probe(memory: FakeMemory, *, longest: int = 2048) -> ForwardCost:
    def run(input_ids_1T: torch.Tensor) -> None:
        assert input_ids_1T.shape[1] <= longest
        memory.num_tokens = input_ids_1T.shape[1]

    return probe_forward_cost(run, meter=memory, device=CPU, token_id=1, longest=longest)


@pytest.mark.parametrize("longest", [8, 130, 2048])
@pytest.mark.parametrize("per_pair", [0, 16])
def test_the_probe_finds_both_terms(per_pair: int, longest: int) -> None:
    cost = probe(FakeMemory(per_token=5000, per_pair=per_pair), longest=longest)

    assert cost.per_token == pytest.approx(5000)
    assert cost.per_token_pair == pytest.approx(per_pair)
    assert cost.per_token_at(2048) == pytest.approx(5000 + 2048 * per_pair)


def test_a_batch_takes_no_more_than_is_free() -> None:
    cost = ForwardCost(per_token=10_000, per_token_pair=0)
    memory = {"longest": 128, "reserved_bytes": 20 << 20}

    # 50 MiB are left: 5,242 tokens.
    assert tokens_that_fit(cost, free_bytes=100 << 20, **memory) == 4096
    # One window is tried whatever the figures say.
    assert tokens_that_fit(cost, free_bytes=1 << 20, **memory) == 128


def test_a_little_less_memory_changes_no_batch() -> None:
    cost = ForwardCost(per_token=10_000, per_token_pair=2)

    found = {
        tokens_that_fit(cost, longest=128, free_bytes=num_mib << 20, reserved_bytes=0)
        for num_mib in range(80, 110)
    }

    assert found == {4096}


def a_plan() -> CapturePlan:
    """Of a plan, only what the probe reads."""
    plan = create_autospec(CapturePlan, instance=True)
    plan.device, plan.start_id, plan.max_tokens_per_window = CPU, 1, 64
    return plan


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_no_memory_for_the_probe_leaves_one_window_per_batch(error: Exception) -> None:
    budget = TokenBudget(max_tokens=4096)
    model = create_autospec(LogitRows, instance=True)
    model.run_backbone.side_effect = error

    fit_budget(budget, model, plan=a_plan(), memory=DeviceMemory(CPU))

    assert budget.max_tokens == 1


def test_a_mistake_of_the_model_is_not_taken_for_a_lack_of_memory() -> None:
    model = create_autospec(LogitRows, instance=True)
    model.run_backbone.side_effect = RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        fit_budget(TokenBudget(max_tokens=4096), model, plan=a_plan(), memory=DeviceMemory(CPU))


def test_a_budget_is_only_lowered() -> None:
    budget = TokenBudget(max_tokens=4096)

    budget.limit(10_000)
    assert budget.max_tokens == 4096
    budget.limit(700)
    assert budget.max_tokens == 700
    assert budget.num_halvings == 0


def test_live_tensors_are_counted_and_forgotten() -> None:
    def work() -> None:
        for _ in range(3):
            first = torch.ones(1000)
            second = first * 2.0
            second.add_(1.0)
            del first, second

    assert DeviceMemory(CPU).peak_bytes(work) == 8000


def test_free_memory_is_some_of_this_machine() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) << 10

    assert 0 < DeviceMemory(CPU).free_bytes() <= total


def write_group(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / f"memory.{name}").write_text(value)


def test_the_limits_of_a_container_count(tmp_path: Path) -> None:
    write_group(tmp_path / "pod" / "inner", max="max", current="70")
    (tmp_path / "pod" / "memory.max").write_text("100\n")
    (tmp_path / "pod" / "memory.current").write_text("80\n")
    (tmp_path / "pod" / "memory.stat").write_text("anon 60\ninactive_file 15\n")
    (tmp_path / "membership").write_text("0::/pod/inner\n")

    assert _cgroup_rooms(tmp_path, membership=tmp_path / "membership") == [35]


def test_the_limits_of_version_1_count(tmp_path: Path) -> None:
    write_group(tmp_path / "memory" / "box", limit_in_bytes="100", usage_in_bytes="30")
    (tmp_path / "membership").write_text("5:cpuset:/other\n4:memory:/box\n")

    assert _cgroup_rooms(tmp_path, membership=tmp_path / "membership") == [70]
