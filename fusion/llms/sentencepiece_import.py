"""A bare sentencepiece `tokenizer.model`, turned into a tokenizer that reads text the same way.

transformers' own conversion drops the dummy prefix in front of text that starts with a space; this one keeps
sentencepiece's rules: charsmap, whitespace rule, dummy prefix, byte fallback.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import generate_merges

from fusion.errors import ModelUnusable
from fusion.llms.token_bytes import SENTENCEPIECE_MARK

_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6

_HOPELESS_SCORE = -1e4


def import_sentencepiece(path: Path, *, pointer: str | None = None) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer in a sentencepiece model file, and the names of its special tokens.

    Raises:
        ModelUnusable: not a sentencepiece model, or of a type other than BPE and Unigram.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelUnusable(
            f"{path} is not a sentencepiece model: {error}",
            code="tokenizer_unsupported",
            hint="provide a tokenizer.json",
            pointer=pointer,
        ) from error
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise ModelUnusable(
            f"{path} is a sentencepiece model of type {proto.trainer_spec.model_type}, not BPE or Unigram",
            code="tokenizer_unsupported",
            hint="provide a tokenizer.json",
            pointer=pointer,
        )
    tokenizer = Tokenizer(_model(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    tokenizer.decoder = _decoder(adds_prefix=proto.normalizer_spec.add_dummy_prefix)
    for piece in proto.pieces:
        if piece.type in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(piece.piece, normalized=False, special=True)])
        elif piece.type == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(piece.piece, normalized=False, special=False)])
    return tokenizer, _special_tokens(proto)


def _model(proto: Any) -> Any:
    falls_back = any(piece.type == _BYTE for piece in proto.pieces)
    if proto.trainer_spec.model_type == _UNIGRAM:
        # Sentencepiece never finds such pieces in text; here only a hopeless score keeps them out.
        scored = [
            (piece.piece, piece.score if piece.type in (_NORMAL, _USER_DEFINED) else _HOPELESS_SCORE)
            for piece in proto.pieces
        ]
        return models.Unigram(scored, unk_id=proto.trainer_spec.unk_id, byte_fallback=falls_back)
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    unmergeable = {piece.piece for piece in proto.pieces if piece.type != _NORMAL}
    return models.BPE(
        vocab=vocabulary,
        merges=generate_merges(vocabulary, scores, skip_tokens=unmergeable),
        unk_token=proto.pieces[proto.trainer_spec.unk_id].piece,
        fuse_unk=True,
        byte_fallback=falls_back,
    )


def _normalizer(spec: Any) -> Any:
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SENTENCEPIECE_MARK))
    steps.append(normalizers.Replace(" ", SENTENCEPIECE_MARK))
    return normalizers.Sequence(steps)


def _decoder(*, adds_prefix: bool) -> Any:
    steps: list[Any] = [decoders.Replace(SENTENCEPIECE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if adds_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _special_tokens(proto: Any) -> dict[str, str]:
    spec = proto.trainer_spec
    ids = {"bos": spec.bos_id, "eos": spec.eos_id, "unk": spec.unk_id, "pad": spec.pad_id}
    present = {name: index for name, index in ids.items() if 0 <= index < len(proto.pieces)}
    return {f"{name}_token": proto.pieces[index].piece for name, index in present.items()}
