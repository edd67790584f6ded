"""Indented code, two tiny models that have learnt it, and how well a model predicts indentation.

The source (byte-level BPE) reads an indentation as one run and the next word with its space. The target
(sentencepiece-like Unigram) has single spaces and runs of four and eight: a run of three or seven, which is
what the source says, begins for it with a single space.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder

NAMES = ("total", "count", "value", "item")
WORDS = ("def", "if", "for", "in", "return", "else", "run", "items", *NAMES)


def write_code(number: int) -> str:
    """One function, nested up to two levels."""
    rng = random.Random(number)
    first, second = rng.sample(NAMES, 2)
    lines = [f"def run({first}):"]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.6:
            lines += [f"    if {first}:", f"        {second} = {first}"]
            lines += [f"        return {second}"] * rng.randint(0, 1)
        else:
            lines.append(f"    {second} = {first}")
    lines.append(f"    return {second}")
    return "\n".join(lines) + "\n"


def run_reading_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """The source's: byte-level BPE with pieces of three and seven spaces."""
    backend = Tokenizer(models.BPE())
    # Line breaks stand alone, so that an indentation begins where both tokenizers have a boundary.
    lines = pre_tokenizers.Split("\n", "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def four_space_tokenizer() -> PreTrainedTokenizerFast:
    """The target's: Unigram with words, single letters, one space, four and eight."""
    letters = sorted({letter for text in map(write_code, range(50)) for letter in text} - {" ", "\n"})
    pieces = ["▁", "▁" * 4, "▁" * 8, *WORDS, *(f"▁{word}" for word in WORDS), *letters, "\n"]
    # All pieces cost the same, so the fewest are chosen.
    vocabulary = [(piece, 0.0) for piece in ("<unk>", "<s>", "</s>")]
    vocabulary += [(piece, -1.0) for piece in dict.fromkeys(pieces)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="never", split=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def train_checkpoint(
    folder: Path, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, num_steps: int, seed: int
) -> Path:
    """A 2-layer Llama that has read `texts`, batch by batch."""
    torch.manual_seed(seed)
    encoder = TextEncoder(tokenizer)
    config = LlamaConfig(
        vocab_size=encoder.size,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=encoder.start_id,
        eos_token_id=encoder.eos_id,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    rows = [[encoder.start_id, *encoder.encode(text).ids.tolist(), encoder.eos_id] for text in texts]
    for step in range(num_steps):
        batch = [rows[(step * 8 + number) % len(rows)] for number in range(8)]
        longest = max(map(len, batch))
        ids = torch.tensor([[*row, *[encoder.eos_id] * (longest - len(row))] for row in batch])
        labels = torch.tensor([[*row, *[-100] * (longest - len(row))] for row in batch])
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def indentation_accuracy(folder: Path, texts: Sequence[str]) -> float:
    """Share of line starts at which the token read next, run of spaces or word, is the one predicted."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    encoder = TextEncoder(load_tokenizer(folder))
    num_right = num_all = 0
    for text in texts:
        ids = [encoder.start_id, *encoder.encode(text).ids.tolist()]
        predicted = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        for place, token_id in enumerate(ids[:-1]):
            if encoder.piece_bytes[token_id] == b"\n":
                spelled, said = (encoder.piece_bytes[each] for each in (ids[place + 1], predicted[place]))
                num_right += said == spelled if spelled.isspace() else not said.isspace()
                num_all += 1
    return num_right / num_all
