"""What a user does with OpenAI's official client, as it is. Run by an interpreter that has the client and
nothing of ours: `python client_script.py BASE_URL KEY FOLDER`.

It prints one line per thing that somebody has to do for it (`run JOB`, `slow`) and waits for a line; the last
line is what it saw, as JSON. What goes wrong is a traceback and an exit code.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

BASE_URL, KEY, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
CALLS: dict[str, None] = {}
SEEN: dict[str, Any] = {"version": openai.__version__}
TEXT = b"".join(b'{"text": "document %d of a corpus"}\n' % number for number in range(4000))


def did(call: str, answer: Any) -> Any:
    """Note a call that came back; the client raises where one does not."""
    CALLS[call] = None
    return answer


def ask(*words: str) -> None:
    print(*words, flush=True)
    sys.stdin.readline()


def files(client: OpenAI, spec: dict[str, Any]) -> dict[str, str]:
    """A corpus and a spec, uploaded; and everything else there is to do with files."""
    expiry: Any = {"anchor": "created_at", "seconds": 7200}
    corpus = did(
        "files.create",
        client.files.create(file=("corpus.jsonl", TEXT), purpose="fine-tune", expires_after=expiry),
    )
    SEEN["corpus"] = corpus.model_dump()
    made = [
        client.files.create(file=(f"{name}.yaml", json.dumps(spec).encode()), purpose="fusion-spec")  # type: ignore[arg-type]
        for name in ("spec", "spare")
    ]
    did("files.wait_for_processing", client.files.wait_for_processing(made[0].id, poll_interval=0.05))
    SEEN["retrieved"] = did("files.retrieve", client.files.retrieve(corpus.id)).id == corpus.id
    listed = did("files.list", client.files.list(limit=1))
    SEEN["listed files"] = [item.id for item in listed] == [made[1].id, made[0].id, corpus.id]
    many = client.files.list(limit=10_000, purpose="fusion-spec")
    SEEN["listed specs"] = [item.id for item in many] == [made[1].id, made[0].id]
    content = did("files.content", client.files.content(corpus.id))
    SEEN["content"] = content.read() == TEXT
    with client.files.with_streaming_response.content(corpus.id) as streamed:
        streamed.stream_to_file(FOLDER / "streamed")
    did("files.with_streaming_response.content", None)
    SEEN["streamed"] = (FOLDER / "streamed").read_bytes() == TEXT
    SEEN["deleted file"] = did("files.delete", client.files.delete(made[1].id)).model_dump()["deleted"]
    return {"corpus": corpus.id, "spec": made[0].id}


def uploads(client: OpenAI) -> None:
    half, md5 = len(TEXT) // 2, hashlib.md5(TEXT).hexdigest()
    about: Any = {"bytes": len(TEXT), "mime_type": "application/jsonl", "purpose": "fine-tune"}
    upload = did("uploads.create", client.uploads.create(filename="parts.jsonl", **about))
    SEEN["upload"] = upload.model_dump()
    parts = [
        did("uploads.parts.create", client.uploads.parts.create(upload.id, data=piece))
        for piece in (TEXT[:half], TEXT[half:])
    ]
    completed = did(
        "uploads.complete",
        client.uploads.complete(upload.id, part_ids=[part.id for part in parts], md5=md5),
    )
    SEEN["completed"] = (completed.status, completed.file and completed.file.bytes == len(TEXT))
    path = FOLDER / "chunked.jsonl"
    path.write_bytes(TEXT)
    chunked = did(
        "uploads.upload_file_chunked",
        client.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=40_000, md5=md5
        ),
    )
    SEEN["chunked"] = (chunked.status, chunked.file and chunked.file.filename)
    forgotten = client.uploads.create(filename="forgotten.jsonl", **about)
    SEEN["cancelled upload"] = did("uploads.cancel", client.uploads.cancel(forgotten.id)).status
    wrong = client.uploads.create(filename="wrong.jsonl", **about)
    part = client.uploads.parts.create(wrong.id, data=TEXT)
    try:
        client.uploads.complete(wrong.id, part_ids=[part.id], md5="0" * 32)
    except openai.UnprocessableEntityError as error:
        SEEN["wrong md5"] = error.code


def jobs(client: OpenAI, ids: dict[str, str], spec: dict[str, Any], models: list[str]) -> str:
    """Three jobs in three ways; the one that is to run."""
    in_body = did(
        "fine_tuning.jobs.create",
        client.fine_tuning.jobs.create(
            model="fusion", training_file="fusion", extra_body={"fusion": spec}, metadata={"way": "body"}
        ),
    )
    SEEN["job"] = in_body.model_dump()
    uploaded = client.fine_tuning.jobs.create(model="fusion", training_file=ids["spec"], suffix="uploaded")
    recipe = client.fine_tuning.jobs.create(
        model="fusion:small-cpu@1",
        training_file=ids["corpus"],
        suffix="from-a-recipe",
        seed=3,
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
            },
        },
        metadata={"way": "recipe", "fusion.target": models[0], "fusion.source": models[1]},
    )
    SEEN["recipe"] = recipe.model_dump()
    made = [recipe.id, uploaded.id, in_body.id]
    listed = did("fine_tuning.jobs.list", client.fine_tuning.jobs.list(limit=1))
    SEEN["listed jobs"] = [job.id for job in listed] == made
    SEEN["listed by metadata"] = [j.id for j in client.fine_tuning.jobs.list(metadata={"way": "recipe"})] == [
        recipe.id
    ]
    SEEN["listed without metadata"] = [
        j.id for j in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    ] == [uploaded.id]
    SEEN["paused"] = did("fine_tuning.jobs.pause", client.fine_tuning.jobs.pause(recipe.id)).status
    SEEN["resumed"] = did("fine_tuning.jobs.resume", client.fine_tuning.jobs.resume(recipe.id)).status
    for job in (recipe, uploaded):
        SEEN["cancelled"] = did("fine_tuning.jobs.cancel", client.fine_tuning.jobs.cancel(job.id)).status
    return in_body.id


def finished(client: OpenAI, job_id: str) -> None:
    """What is there of a job that has ended."""
    job = did("fine_tuning.jobs.retrieve", client.fine_tuning.jobs.retrieve(job_id))
    SEEN["finished"] = job.model_dump()
    events = list(did("fine_tuning.jobs.list_events", client.fine_tuning.jobs.list_events(job_id, limit=4)))
    SEEN["events"] = {
        "kinds": sorted({str(event.type) for event in events}),
        "ids differ": len({event.id for event in events}) == len(events),
        "first": (events[0].level, events[0].message),
        "last": events[-1].message,
        "losses": [event.data["train_loss"] for event in events if event.type == "metrics"],  # type: ignore[index]
    }
    listed = did("fine_tuning.jobs.checkpoints.list", client.fine_tuning.jobs.checkpoints.list(job_id))
    SEEN["checkpoints"] = [(item.step_number, item.metrics.train_loss) for item in listed]
    SEEN["curve"] = client.files.content(job.result_files[0]).text.splitlines()[:2]
    model_id = str(job.fine_tuned_model)
    SEEN["model is listed"] = model_id in [item.id for item in did("models.list", client.models.list())]
    SEEN["model"] = did("models.retrieve", client.models.retrieve(model_id)).model_dump()
    SEEN["deleted model"] = did("models.delete", client.models.delete(model_id)).deleted


def errors(client: OpenAI, job_id: str) -> None:
    num_requests: list[str] = []
    http = openai.DefaultHttpxClient(
        event_hooks={"request": [lambda request: num_requests.append(request.method)]}
    )
    counted = client.with_options(http_client=http)
    try:
        counted.fine_tuning.jobs.pause(job_id)
    except openai.ConflictError as error:
        SEEN["conflict"] = (error.code, len(num_requests))
    try:
        counted.fine_tuning.jobs.retrieve("job-06f3k9x2q4v8t1m7c5b0z6n3ha")
    except openai.NotFoundError as error:
        SEEN["not found"] = (error.code, error.type)
    try:
        client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-1")
    except openai.UnprocessableEntityError as error:
        body: Any = error.body
        SEEN["unprocessable"] = (error.code, error.param, bool(error.request_id), "recipe" in body["message"])
    try:
        OpenAI(base_url=BASE_URL, api_key="fus_wrong").models.list()
    except openai.AuthenticationError as error:
        SEEN["unauthorised"] = error.code


def again(client: OpenAI, spec: dict[str, Any]) -> None:
    """An answer that comes too late; the client asks again by itself."""
    ask("slow")
    raw = client.with_options(timeout=2.0).fine_tuning.jobs.with_raw_response.create(
        model="fusion", training_file="fusion", extra_body={"fusion": spec}, metadata={"way": "again"}
    )
    did("fine_tuning.jobs.with_raw_response.create", None)
    SEEN["again"] = {
        "replayed": raw.headers.get("idempotent-replayed"),
        "retries": raw.retries_taken >= 1,
        "request id": bool(raw.headers.get("x-request-id")),
        "jobs": len(list(client.fine_tuning.jobs.list(metadata={"way": "again"}))),
    }
    client.fine_tuning.jobs.cancel(raw.parse().id)


async def asynchronous(ids: dict[str, str], spec: dict[str, Any]) -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as client:
        job = await client.fine_tuning.jobs.create(
            model="fusion", training_file="fusion", extra_body={"fusion": spec}, metadata={"way": "async"}
        )
        listed = [item.id async for item in client.fine_tuning.jobs.list(limit=2)]
        content = await client.files.content(ids["corpus"])
        events = [event.message async for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]
        cancelled = await client.fine_tuning.jobs.cancel(job.id)
        did("AsyncOpenAI", None)
        SEEN["async"] = {
            "listed": (listed[0] == job.id, len(listed)),
            "content": content.read() == TEXT,
            "events": events,
            "cancelled": cancelled.status,
        }


def main() -> None:
    spec = json.loads((FOLDER / "spec.json").read_text())
    models = json.loads((FOLDER / "models.json").read_text())
    client = OpenAI(base_url=BASE_URL, api_key=KEY)
    ids = files(client, spec)
    uploads(client)
    job_id = jobs(client, ids, spec, models)
    ask("run", job_id)
    errors(client, job_id)
    finished(client, job_id)
    again(client, spec)
    asyncio.run(asynchronous(ids, spec))
    print(json.dumps({"calls": list(CALLS), "seen": SEEN}), flush=True)


main()
