"""How much work each row does."""

from dataclasses import dataclass
from typing import NamedTuple


class TrainedShape(NamedTuple):
    """A Llama-shaped model whose training steps are measured."""

    hidden_size: int
    num_layers: int
    vocabulary_size: int

    def __str__(self) -> str:
        return f"{self.hidden_size}x{self.num_layers}.{self.vocabulary_size}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthSizes:
    """The rows about growth: models so small that 21 times the smallest corpus is soon read.

    num_documents: of the smallest corpus; the largest has 16 times as many, and the library holds no more.
    rounds: how often every corpus size is run.
    """

    num_documents: int
    max_document_characters: int
    max_tokens_per_window: int
    windows_per_shard: int
    vocabulary_size: int
    tokenizer_characters: int
    hidden_size: int
    num_layers: int
    rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """One set of sizes; `FULL` makes the figures, `QUICK` shows that every row runs.

    vocabulary_size, byte_level_vocabulary_size: pieces of the sentencepiece and of the byte-level tokenizers.
    tokenizer_characters: of the text the tokenizers are trained on, at most.
    num_documents, max_document_characters: the corpus; document lengths are spread evenly up to the maximum.
    max_tokens_per_window: also the length of the block that is trained on.
    hidden_size, num_layers: of every model.
    trained_shapes: one group of rows each; collation and waiting are measured on the first.
    extraction_window_stride: every so many windows one is extracted by the rows that repeat it.
    extraction_shapes: hidden size, layers and rows of the head of further models to extract from.
    growth: of the rows about growth, which have models of their own.
    map_sizes: pieces on each side of the vocabulary maps whose cost is followed over the size.
    repetitions: of everything that is timed; those of training steps, peak memory and imports have their own.
    """

    vocabulary_size: int
    byte_level_vocabulary_size: int
    tokenizer_characters: int
    num_documents: int
    max_document_characters: int
    max_tokens_per_window: int
    hidden_size: int
    num_layers: int
    trained_shapes: tuple[TrainedShape, ...]
    extraction_window_stride: int
    extraction_shapes: tuple[tuple[int, int, int], ...]
    growth: GrowthSizes
    map_sizes: tuple[int, ...]
    repetitions: int
    training_repetitions: int
    memory_repetitions: int
    import_repetitions: int


FULL = Sizes(
    vocabulary_size=32_000,
    byte_level_vocabulary_size=50_254,
    tokenizer_characters=20_000_000,
    num_documents=28,
    max_document_characters=12_000,
    max_tokens_per_window=2048,
    hidden_size=128,
    num_layers=2,
    trained_shapes=(
        TrainedShape(128, 2, 32_000),
        TrainedShape(128, 2, 152_000),
        TrainedShape(512, 4, 32_000),
    ),
    extraction_window_stride=3,
    extraction_shapes=((256, 4, 32_000), (512, 8, 32_000), (128, 2, 8_000), (128, 2, 128_000)),
    growth=GrowthSizes(
        num_documents=14,
        max_document_characters=6000,
        max_tokens_per_window=256,
        windows_per_shard=8,
        vocabulary_size=2000,
        tokenizer_characters=1_000_000,
        hidden_size=32,
        num_layers=1,
        rounds=3,
    ),
    map_sizes=(8_000, 32_000, 128_000),
    repetitions=5,
    training_repetitions=5,
    memory_repetitions=3,
    import_repetitions=5,
)
QUICK = Sizes(
    vocabulary_size=1000,
    byte_level_vocabulary_size=1200,
    tokenizer_characters=300_000,
    num_documents=8,
    max_document_characters=1200,
    max_tokens_per_window=128,
    hidden_size=32,
    num_layers=1,
    trained_shapes=(TrainedShape(32, 1, 1000),),
    extraction_window_stride=2,
    extraction_shapes=((48, 1, 1000),),
    growth=GrowthSizes(
        num_documents=4,
        max_document_characters=1200,
        max_tokens_per_window=128,
        windows_per_shard=4,
        vocabulary_size=1000,
        tokenizer_characters=300_000,
        hidden_size=32,
        num_layers=1,
        rounds=1,
    ),
    map_sizes=(500, 2000),
    repetitions=2,
    training_repetitions=2,
    memory_repetitions=1,
    import_repetitions=2,
)
