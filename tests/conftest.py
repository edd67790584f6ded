"""Settings of every test run: no network, quiet libraries, one thread per torch process, no deadlines."""

import os

from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine shared with other work misses any deadline now and then.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

pytest_plugins = ["tests.support.services", "tests.support.databases", "tests.support.object_store"]
