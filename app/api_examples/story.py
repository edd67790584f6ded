"""The things that the examples are about: their ids, digests and times."""

from typing import Any, Final

PROJECT_ID: Final = "proj-01m8k1x9c204kg39d6kqjchjp5"
KEY_ID: Final = "key-01m8k1xa4y1m45214wwwp7r0bq"
JOB_ID: Final = "job-01m8k3235xeyzw3s01z4mz3f1a"
PREPARE_ID: Final = "step-01m8k3235yzhc9ckj7w65nmhp0"
TRAIN_ID: Final = "step-01m8k3235ywa98byp3q5k6bc2x"
FILE_ID: Final = "file-01m8k2t94yzj4khy32fk8g5nq8"
PREPARED_ID: Final = "art-01m8k35b4yxf5at4enyy5pnzgh"
CHECKPOINT_ID: Final = "art-01m8k3ahm7cdbtcg9rentgbecg"
FUSED_ID: Final = "art-01m8kp4z4y9mdsgenjwkfmg4hm"
MODEL_ID: Final = "model-01m8kp4z4yeytf83ewb2tc8ntx"
PUBLICATION_ID: Final = "pub-01m8kq2d8v0e1c5m7q4t9x3b6n"
PROMOTED_ID: Final = "model-01m8k3cxk7w382ha8ajzpmxcdh"

REVISION: Final = "0123456789abcdef0123456789abcdef01234567"
CORPUS_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CONFIG_SHA256: Final = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
WEIGHTS_SHA256: Final = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
FUSED_DIGEST: Final = "951512b6a1c87f15d9f1e7e0b3c0c0b2c0c9f0a3b7a4c0d1f2e3a4b5c6d7e8f9"
CHECKPOINT_DIGEST: Final = "dc11641d0d5d0dedb332121d9b0dd2424fee8ddf7c7e453aafc287227f28e574"

UPLOADED_AT: Final = 1_764_028_500
SUBMITTED_AT: Final = 1_764_028_800
STARTED_AT: Final = 1_764_028_806
PREPARED_AT: Final = 1_764_029_106
TRAINING_AT: Final = 1_764_036_000
CHECKPOINT_AT: Final = 1_764_043_200
NOW: Final = 1_764_043_260
FUSED_AT: Final = NOW + 28_400


def page(*items: dict[str, Any]) -> dict[str, Any]:
    """A list that holds these and no more."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"],
        "last_id": items[-1]["id"],
        "has_more": False,
    }
