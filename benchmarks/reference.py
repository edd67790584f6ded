"""What the public FuseLLM scripts (commit 562c7b0) took, run stage by stage on 2 cores without a GPU.

24 + 4 documents, 168,622 characters, 37 windows of up to 2048 tokens, 44,640 target tokens; tokenizers of
32,000, 32,000 and 50,254 pieces; 2-layer, 128-wide models; top 10. These seconds stand in for the reference
where it is too slow to be run again, as figures per token or per piece of similar work, never as a
comparison on the same machine.

Reference: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491
"""

NUM_TARGET_TOKENS = 44_640
NUM_WINDOWS = 37
BLOCK_TOKENS = 2048
NUM_CORES = 2

EXTRACTION_SECONDS = 42.0
"""Per source; the fastest of 42 to 75 s. Every row is padded to 2048 tokens, on both cores."""
CAPTURE_BYTES_PER_TOKEN = 246.0
MAPPING_SECONDS = {32_000: 366.0, 50_254: 609.0}
"""Minimum edit distance map of so many source pieces onto 32,000, on one core."""
MAPPING_SECONDS_PER_SEARCHED_PIECE = MAPPING_SECONDS[50_254] / 28_537
"""28,537 of the 50,254 pieces have no equal among the target's and are searched for; others are looked up."""
DTW_SECONDS = {32_000: 91.0, 50_254: 141.0}
"""All windows of one source of so many pieces, on one core."""
COLLATION_SECONDS = 1.28
"""One 2048-token block with the rows of 3 sources, 32,000 wide."""
STEP_SECONDS = 12.8
"""Forward, loss and backward on that block; plain CLM took 2.8 s."""


def dtw_tokens_per_second(source_size: int) -> float:
    """Target tokens per second and core with the source nearest to `source_size` pieces."""
    nearest = min(DTW_SECONDS, key=lambda size: abs(size - source_size))
    return NUM_TARGET_TOKENS / DTW_SECONDS[nearest]


def padding_fraction() -> float:
    """Share of the positions of extraction that were padding."""
    return 1.0 - NUM_TARGET_TOKENS / (NUM_WINDOWS * BLOCK_TOKENS)


def job_seconds(*, num_target_tokens: int, num_sources_mapped: int) -> float:
    """Sum of the stages on `num_target_tokens`: 3 extractions, 2 maps, 2 alignments, training on every block.

    The maps do not depend on the text and count whole.
    """
    if num_sources_mapped != len(MAPPING_SECONDS):
        raise ValueError(f"the reference mapped {len(MAPPING_SECONDS)} sources, not {num_sources_mapped}")
    num_extractions = num_sources_mapped + 1
    training = NUM_TARGET_TOKENS / BLOCK_TOKENS * (COLLATION_SECONDS + STEP_SECONDS)
    per_text = num_extractions * EXTRACTION_SECONDS + sum(DTW_SECONDS.values()) + training
    return per_text * num_target_tokens / NUM_TARGET_TOKENS + sum(MAPPING_SECONDS.values())
