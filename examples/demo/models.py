"""Three small models of different architectures and tokenizers, really trained on real text, and cached.

The target (Llama-like) has read a little of everything. Each source is a specialist of one domain that has
read far more of it than the target has, and than the fusion corpus holds: so there is something to fuse.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import sentencepiece as sp
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from examples.demo.texts import Document, Domain, documents
from fusion.llms.loading import load_tokenizer

BLOCK_TOKENS = 256
BLOCKS_PER_STEP = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How one small model is made. `domains` is the text it reads, `max_chars` how much of each.

    autocast: half precision in training, faster where the processor multiplies it (`avx512_bf16`, `amx`).
    """

    name: str
    likeness: str
    family: str
    tokenizer: str
    vocabulary_size: int
    hidden_size: int
    num_layers: int
    domains: tuple[Domain, ...]
    max_chars: int
    num_steps: int
    learning_rate: float = 3e-3
    seed: int = 0
    autocast: bool = False


RECIPES = (
    Recipe(
        name="target",
        likeness="Llama-like",
        family="llama",
        tokenizer="sentencepiece",
        vocabulary_size=2000,
        hidden_size=128,
        num_layers=3,
        domains=("code", "prose"),
        max_chars=150_000,
        num_steps=130,
    ),
    Recipe(
        name="code",
        likeness="MPT-like",
        family="mpt",
        tokenizer="byte_level",
        vocabulary_size=3000,
        hidden_size=160,
        num_layers=4,
        domains=("code",),
        max_chars=4_000_000,
        num_steps=360,
    ),
    Recipe(
        name="prose",
        likeness="OpenLLaMA-like",
        family="llama",
        tokenizer="sentencepiece",
        vocabulary_size=1600,
        hidden_size=160,
        num_layers=4,
        domains=("prose",),
        max_chars=4_000_000,
        num_steps=360,
    ),
)


def make_models(cache: Path, *, say: Callable[[str], None]) -> dict[str, Path]:
    """Train whatever the cache does not hold, two models at a time; returns name -> checkpoint folder."""
    folders = {recipe.name: cache / f"{recipe.name}-{recipe_digest(recipe)}" for recipe in RECIPES}
    missing = [recipe for recipe in RECIPES if not (folders[recipe.name] / "demo.json").is_file()]
    for recipe in RECIPES:
        if recipe not in missing:
            say(f"{recipe.name} ({recipe.likeness}): cached")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        longest_first = sorted(missing, key=lambda recipe: -recipe.num_steps)
        jobs = [pool.submit(_make_demo_model, recipe, folders[recipe.name]) for recipe in longest_first]
        for job in jobs:
            say(job.result())
    return folders


def _make_demo_model(recipe: Recipe, folder: Path) -> str:
    return make_model(recipe, documents("pretraining"), folder)


def make_model(recipe: Recipe, corpus: Sequence[Document], folder: Path) -> str:
    """Train tokenizer and model, save them, and return one line that says how it went."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    hf.utils.logging.disable_progress_bar()
    started = time.monotonic()
    texts = [document.text for document in _select(corpus, recipe)]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = TOKENIZER_MAKERS[recipe.tokenizer](texts, recipe, folder)
    model = hf.AutoModelForCausalLM.from_config(_config(recipe, tokenizer))
    loss = _train(model, _blocks(texts, tokenizer), recipe)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seconds = time.monotonic() - started
    (folder / "demo.json").write_text(json.dumps({**asdict(recipe), "final_loss": loss, "seconds": seconds}))
    chars = sum(map(len, texts))
    return (
        f"{recipe.name} ({recipe.likeness}, {model.num_parameters() / 1e6:.1f} M parameters): "
        f"{chars / 1e6:.2f} M characters of {' and '.join(recipe.domains)}, "
        f"loss {loss:.2f} nats per token, {seconds:.0f} s"
    )


def recipe_digest(recipe: Recipe) -> str:
    """Changes when anything about the recipe does."""
    return sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:12]


def _select(corpus: Sequence[Document], recipe: Recipe) -> list[Document]:
    """The first `max_chars` characters of each domain of the recipe."""
    left = dict.fromkeys(recipe.domains, recipe.max_chars)
    chosen = []
    for document in corpus:
        if left.get(document.domain, 0) > 0:
            left[document.domain] -= len(document.text)
            chosen.append(document)
    return chosen


def _sentencepiece(texts: list[str], recipe: Recipe, folder: Path) -> Any:
    """BPE with dummy prefix and byte fallback, as Llama's."""
    sp.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.splitlines()),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=recipe.vocabulary_size,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    return load_tokenizer(folder)


def _byte_level(texts: list[str], recipe: Recipe, folder: Path) -> Any:
    """Byte-level BPE, as GPT-NeoX's and MPT's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


TOKENIZER_MAKERS: dict[str, Callable[[list[str], Recipe, Path], Any]] = {
    "sentencepiece": _sentencepiece,
    "byte_level": _byte_level,
}


def _config(recipe: Recipe, tokenizer: Any) -> Any:
    width, layers = recipe.hidden_size, recipe.num_layers
    if recipe.family == "mpt":
        # A head larger than the tokenizer, as MPT-7B has (50432 rows for 50277 tokens).
        return hf.MptConfig(
            vocab_size=len(tokenizer) + 56,
            d_model=width,
            n_layers=layers,
            n_heads=4,
            max_seq_len=512,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    return hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _blocks(texts: Sequence[str], tokenizer: Any) -> torch.Tensor:
    """[blocks, BLOCK_TOKENS + 1]; every document starts with BOS, or EOS where there is no BOS."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    stream: list[int] = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        stream += [start, *ids] if start == tokenizer.eos_token_id else [start, *ids, tokenizer.eos_token_id]
    count = (len(stream) - 1) // BLOCK_TOKENS
    ids = torch.tensor(stream[: count * BLOCK_TOKENS + 1])
    return ids.unfold(0, BLOCK_TOKENS + 1, BLOCK_TOKENS)


def _train(model: Any, blocks: torch.Tensor, recipe: Recipe) -> float:
    """Plain language-model training; returns the mean loss of the last tenth, in nats per token."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    warmup = max(1, recipe.num_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(
            (step + 1) / warmup, 0.05 + 0.475 * (1 + math.cos(math.pi * step / recipe.num_steps))
        ),
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    losses = []
    for _ in range(recipe.num_steps):
        batch = blocks[torch.randint(len(blocks), (BLOCKS_PER_STEP,), generator=generator)]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.autocast):
            logits = model(input_ids=batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return sum(losses[-len(losses) // 10 :]) / len(losses[-len(losses) // 10 :])
