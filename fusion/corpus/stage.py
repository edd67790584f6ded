"""Stage `prepare`: check the models, read the corpus, set a part aside, cut all of it into windows.

Two passes over the text: the first finds every mistake in it and the size of the job, the second writes.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.corpus.cutting import cut_documents
from fusion.corpus.disk_estimate import require_disk
from fusion.corpus.documents import corpus_path, iter_documents
from fusion.corpus.losses import LossCount, require_lossless
from fusion.corpus.model_check import CheckedModel, check_models
from fusion.corpus.split_writer import SplitWriter
from fusion.corpus.survey import Survey, survey_corpus
from fusion.corpus.windowing import Reader
from fusion.io.atomic import write_json
from fusion.io.manifest import file_sha256, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import Split
from fusion.job_sizes import DiskEstimate, estimate_disk
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

PREPARED_KIND = "prepared"
MODELS_NAME = "models.json"

Writers = dict[Split, SplitWriter]
Losses = dict[str, LossCount]


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Write `train/`, `held_out/` and `models.json`. Redone from the start after an interruption.

    Raises:
        ModelUnusable, SpecInvalid: a model cannot be used.
        CorpusInvalid: the text cannot be read.
        CapacityError: the job will not fit on the disk.
        TokenizerLossy: a tokenizer fails to reproduce too many documents.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    models = check_models(spec, inputs)
    survey = survey_corpus(
        iter_documents(spec.corpus, files=inputs.files),
        held_out_fraction=spec.corpus.held_out_fraction,
        encoders={model.name: model.encoder for model in models},
    )
    estimate = _estimate(spec, models=models, survey=survey)
    require_disk(estimate, folder=out_dir, max_disk_bytes=spec.limits.max_disk_bytes)
    writers = _open_writers(spec, out_dir)
    losses = _write_windows(spec, inputs, writers, models=models, survey=survey, progress=progress)
    for model in models:
        require_lossless(
            losses[model.name],
            name=model.name,
            pointer=model.pointer,
            num_documents=survey.num_documents,
            max_lossy_fraction=spec.strategy.alignment.max_lossy_fraction,
        )
    described = {model.name: model.describe() | {"lossy": losses[model.name].describe()} for model in models}
    write_json(out_dir / MODELS_NAME, described)
    meta = _facts(writers, survey=survey) | {"origins": _origins(spec, inputs)}
    write_manifest(out_dir, kind=PREPARED_KIND, meta=meta)
    figures = _figures(meta, losses=losses, survey=survey, estimate=estimate)
    return StageReport(figures=figures | {"models": {model.name: _size_of(model) for model in models}})


def _size_of(model: CheckedModel) -> dict[str, int]:
    return {"num_parameters": model.info.num_parameters, "vocabulary_size": model.encoder.size}


def _estimate(spec: FusionSpec, *, models: list[CheckedModel], survey: Survey) -> DiskEstimate:
    return estimate_disk(
        spec,
        num_bytes=survey.num_bytes,
        tokens_per_byte=survey.tokens_per_byte,
        vocabulary_sizes={model.name: model.encoder.size for model in models},
        num_target_parameters=models[0].info.num_parameters,
    )


def _open_writers(spec: FusionSpec, out_dir: Path) -> Writers:
    """Empty both splits of what an interrupted attempt left."""
    writers: Writers = {}
    for split in ("train", "held_out"):
        shutil.rmtree(out_dir / split, ignore_errors=True)
        writers[split] = SplitWriter(out_dir, split=split, windows_per_shard=spec.corpus.windows_per_shard)
    return writers


def _write_windows(
    spec: FusionSpec,
    inputs: StageInputs,
    writers: Writers,
    *,
    models: list[CheckedModel],
    survey: Survey,
    progress: Progress,
) -> Losses:
    """The second pass; returns the lossy documents per model."""
    readers = [Reader(encoder=model.encoder, max_tokens=model.max_text_tokens) for model in models]
    losses = {model.name: LossCount(encoder=model.encoder) for model in models}
    num_tokens = 0
    documents = cut_documents(
        iter_documents(spec.corpus, files=inputs.files),
        readers=readers,
        max_tokens=spec.corpus.max_tokens_per_window,
        num_threads=os.cpu_count() or 1,
    )
    for number, (document, cuts) in enumerate(documents):
        for index, model in enumerate(models):
            losses[model.name].add(document, cuts, reader=index)
            for cut in cuts:
                model.require_known_ids(cut.encodings[index])
        num_tokens += sum(len(cut.encodings[0].ids) for cut in cuts)
        writers[survey.rule.side(document.text)].add_document(number, document, cuts=cuts)
        progress.update(number + 1, survey.num_documents, unit="documents", tokens=num_tokens)
    for writer in writers.values():
        writer.flush()
    return losses


def _facts(writers: Writers, *, survey: Survey) -> dict[str, Any]:
    """What later stages and the model card read of the corpus."""
    domains = sorted({domain for writer in writers.values() for domain in writer.documents_of_domain})
    return {
        "num_documents": survey.num_documents,
        "num_windows": sum(writer.num_windows for writer in writers.values()),
        "num_bytes": survey.num_bytes,
        "corpus_digest": survey.digest,
        "domains": {
            domain: {split: writer.documents_of_domain[domain] for split, writer in writers.items()}
            for domain in domains
        },
        "splits": {
            split: {
                "num_documents": writer.num_documents,
                "num_windows": writer.num_windows,
                "num_bytes": writer.num_bytes,
                "num_shards": writer.num_shards,
            }
            for split, writer in writers.items()
        },
    }


def _origins(spec: FusionSpec, inputs: StageInputs) -> list[dict[str, Any]]:
    """Where the text comes from, with what pins it."""
    if spec.corpus.dataset is not None:
        return [spec.corpus.dataset.model_dump(mode="json")]
    paths = [corpus_path(file, files=inputs.files) for file in spec.corpus.files]
    return [
        {"name": path.name, "file_id": file.file_id, "sha256": file_sha256(path)}
        for path, file in zip(paths, spec.corpus.files, strict=True)
    ]


def _figures(
    meta: dict[str, Any], *, losses: Losses, survey: Survey, estimate: DiskEstimate
) -> dict[str, Any]:
    return {
        "num_documents": meta["num_documents"],
        "num_windows": meta["num_windows"],
        "num_bytes": meta["num_bytes"],
        "domains": meta["domains"],
        "splits": meta["splits"],
        "lossy_documents": {name: count.num_documents for name, count in losses.items()},
        "tokens_per_byte": survey.tokens_per_byte,
        "estimated_disk_bytes": asdict(estimate) | {"total": estimate.total},
    }
