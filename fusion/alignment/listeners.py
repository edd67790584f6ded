"""Preparing to listen: tokenizers and vocabulary maps of all models of a job."""

from collections.abc import Mapping

from fusion.alignment.lesson_rows import TARGET, Aligner
from fusion.alignment.positions import PieceMatcher, build_piece_matcher
from fusion.alignment.row_transform import Context
from fusion.alignment.speakers import Listener
from fusion.alignment.vocabulary import VocabularyMap, build_vocabulary_map, identity_map
from fusion.io.stage_inputs import StageInputs
from fusion.llms.checkpoints import resolve_checkpoint
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from fusion.spec import AlignmentSpec, FusionSpec


def load_encoders(spec: FusionSpec, inputs: StageInputs) -> dict[str, TextEncoder]:
    """The tokenizers of the target and of every captured model, by name.

    Raises:
        ModelUnusable: a checkpoint or its tokenizer cannot be read.
    """
    names = dict.fromkeys([TARGET, *spec.captured_names])
    return {
        name: TextEncoder(load_tokenizer(resolve_checkpoint(spec.model_ref(name), inputs))) for name in names
    }


def build_aligner(
    spec: FusionSpec, encoders: Mapping[str, TextEncoder], *, num_target_rows: int | None = None
) -> Aligner:
    """Compute the vocabulary map of every speaker; with `min_edit_distance` the longest part by far.

    Args:
        num_target_rows: rows of the target's head; ids at or above it cannot be taught, whatever its
            tokenizer adds to them. None when the head has a row for every id.
    """
    target = encoders[TARGET]
    num_ids = target.size if num_target_rows is None else min(target.size, num_target_rows)
    listeners = []
    for name in spec.speaker_names:
        is_target = name == TARGET
        vocabulary = (
            identity_map(target.size, num_ids=num_ids)
            if is_target
            else build_vocabulary_map(
                encoders[name], target, method=spec.strategy.vocabulary.map, num_ids=num_ids
            )
        )
        matcher = None if is_target else _matcher(encoders[name], target, vocabulary, spec.strategy.alignment)
        listeners.append(Listener(name=name, vocabulary=vocabulary, matcher=matcher, is_target=is_target))
    return Aligner(spec=spec, listeners=listeners, target_size=target.size)


def _matcher(
    source: TextEncoder, target: TextEncoder, vocabulary: VocabularyMap, spec: AlignmentSpec
) -> PieceMatcher | None:
    if spec.tokens != "dtw":
        return None
    return build_piece_matcher(
        target.pieces,
        source.pieces,
        target_mark=target.mark,
        source_mark=source.mark,
        soft_images=vocabulary.images_3V[Context.INSIDE] if spec.dtw_match == "soft" else None,
    )
