"""Two ranks over gloo give the weights of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fusion.training.runs import TrainingCase

PROGRAM = """
import sys
from pathlib import Path
from fusion.io.stage_inputs import StageInputs
from fusion.progress import NullProgress
from fusion.spec import FusionSpec
from fusion.training import stage

folder = Path(sys.argv[1])
spec = FusionSpec.model_validate_json((folder / "spec.json").read_text())
inputs = StageInputs(subject="fused", steps={"align": folder / "align"})
stage.run(spec, inputs, folder / "two", progress=NullProgress())
"""


def start_rank(rank: int, folder: Path, port: int) -> subprocess.Popen:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], env=environment)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_ranks_equal_one(tmp_path):
    case = TrainingCase(tmp_path)
    case.run("one")
    (tmp_path / "spec.json").write_text(case.spec.model_dump_json())
    (tmp_path / "two").mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    ranks = [start_rank(rank, tmp_path, port) for rank in range(2)]
    codes = [rank.wait(timeout=120) for rank in ranks]

    assert codes == [0, 0]
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=2e-5)
