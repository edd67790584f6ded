"""Runs the real `huggingface_hub` and `transformers` in processes of their own, as a user's machine does."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class HubClient:
    """A machine with its own cache. `token`: what its user put into HF_TOKEN."""

    home: Path
    endpoint: str
    token: str

    def run(self, program: str, **given: Any) -> Any:
        """Run Python with `given` as a dictionary; what it assigned to `result`."""
        wrapped = (
            "import json, sys\n"
            f"given = json.loads({json.dumps(given)!r})\n"
            f"{program}\n"
            "print('\\n' + json.dumps(result))"
        )
        env = os.environ | {
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": self.token,
        }
        done = subprocess.run(
            [sys.executable, "-c", wrapped],
            check=False,
            env=env,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])
