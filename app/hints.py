"""The way out of a refusal, by the code of the problem; what depends on the request is said there."""

from collections.abc import Mapping
from typing import Final

_NEW_KEY: Final = "make a key with `fusion key create`, or with `fusion key bootstrap` where the service runs"

HINT_OF_CODE: Final[Mapping[str, str]] = {
    "missing_api_key": _NEW_KEY,
    "invalid_api_key": _NEW_KEY,
    "api_key_expired": _NEW_KEY,
    "api_key_revoked": _NEW_KEY,
    "scope_missing": "use a key that has this scope: `fusion key create NAME --scope SCOPE` makes one",
    "spec_invalid": "the schema of every field: GET /v1/schemas/fusion-spec",
    "path_not_found": "mend the path, or upload the file with POST /v1/files and give its file_id",
    "path_not_allowed": "GET /v1/capabilities lists the allowed folders; POST /v1/files uploads a file",
    "file_not_usable": "GET /v1/files/{id} says what is wrong with it; mend it and upload it again",
    "job_not_failed": "a running job goes on by itself; one that is cancelled or succeeded is submitted anew",
    "job_finished": "POST /v1/jobs/{id}/clone submits its spec again; a failed job can also be retried",
    "job_cancelling": "wait until it is cancelled; POST /v1/jobs/{id}/clone submits its spec again",
    "job_not_found": "GET /v1/jobs lists the jobs of this project",
    "step_not_found": "GET /v1/jobs/{id}/steps lists the steps of the job",
    "file_not_found": "GET /v1/files lists the files of this project; POST /v1/files adds one",
    "upload_not_found": "GET /v1/uploads lists the uploads of this project; POST /v1/uploads begins one",
    "upload_completed": "GET /v1/uploads/{id} names the file that it became",
    "upload_cancelled": "begin again with POST /v1/uploads",
    "upload_expired": "begin again with POST /v1/uploads",
    "upload_too_large": "cancel it and begin again with the right size, or send parts cut as before",
    "upload_size_differs": "GET /v1/uploads/{id} lists the parts that are there; send those that are missing",
    "part_not_found": "GET /v1/uploads/{id} lists the parts that are there",
    "digest_differs": "a part is missing, twice there, or in the wrong place; mend the order, or cancel",
    "model_not_found": "GET /v1/models lists the models of this project",
    "model_has_no_artifact": "only models that a job made are stored here",
    "artifact_not_found": "GET /v1/artifacts?job_id=... lists the artifacts of a job",
    "artifact_file_not_found": "GET /v1/artifacts/{id} lists the files of the artifact",
    "api_key_rotated": "GET /v1/api_keys/{id} names its successor in replaced_by_id",
    "scope_not_yours": "GET /v1/me lists the scopes of this key; ask whoever has more for a key with more",
    "project_not_found": "GET /v1/projects lists the projects that this key sees",
    "project_exists": "choose another name",
    "project_has_jobs": "cancel its jobs first, and wait for their end",
    "api_key_not_found": "GET /v1/api_keys lists the keys of this project",
    "cursor_not_found": "start again without `after`",
    "not_found": "GET /openapi.json describes every path",
    "idempotency_key_reused": "send a new Idempotency-Key with a new request",
    "idempotency_in_progress": "send the same request again in a second; it gets the answer of the first",
    "idempotency_key_invalid": "send e.g. a UUID: `Idempotency-Key: 0190f6a2-3f6e-7c3a-9d55-5a2f6b1f0c11`",
}
