"""Does it matter whether a vocabulary is made of the tested texts, too? Folds of SST-2 with both kinds of tokenizer.

    pip install '.[text]'
    JAXDL_REAL_DATA=FOLDER python experiments/vocabulary_leak.py [--sentences 1000] [--seeds 3]

FOLDER holds sst2_train.tsv.gz. A convolutional network for text is trained from scratch on each training part twice:
with word pieces made of that part alone, and with word pieces made of all sentences, those that the fold tests
included; without labels in both cases. The same folds, seeds and plan; nothing is chosen. The differences are those of
each sentence's tested answers, the mean over seeds; their interval is 1.96 standard errors over sentences, and so about
these training parts.
"""

import argparse
import csv
import dataclasses
import gzip
import os
import time
from pathlib import Path

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.validation.splits import split_source

FOLDS, LENGTH, VOCABULARY = 5, 48, 2000
PLAN = jaxdl.Plan(epochs=8, batch_size=32, learning_rate=3e-3)


def read(file: Path, count: int) -> data.Source:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
    texts, labels = zip(*(rows[i] for i in chosen), strict=True)
    return data.texts(texts, np.array(labels, int), ("negative", "positive"))


def tested(source: data.Source, train: np.ndarray, test: np.ndarray, made_of: np.ndarray, seed: int) -> np.ndarray:
    """Of each tested sentence whether it is right, and its loss in nats, by word pieces of the sentences `made_of`."""
    content = data.train_tokenizer([source.texts[i] for i in made_of], VOCABULARY)
    given = dataclasses.replace(source, preprocessing=TextPreprocessing(content, LENGTH))
    model = jaxdl.create("textcnn", 2, vocabulary=VOCABULARY, width=32, features=32)
    network = jaxdl.finetune(model, data.subset(given, train), dataclasses.replace(PLAN, seed=seed))
    record = network.task.host_record(jaxdl.predict(network, data.subset(given, test)).outputs, given.targets()[test])
    return np.stack([record["predicted"] == record["target"], record["nats"]], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    source = read(Path(os.environ["JAXDL_REAL_DATA"]) / "sst2_train.tsv.gz", options.sentences)
    split, every = split_source(source, "auto", FOLDS, 0), np.arange(len(source))
    found = {name: np.zeros((len(source), 2)) for name in ("part", "all")}
    begin = time.perf_counter()
    for seed in range(options.seeds):
        for train, test in zip(split.train, split.test, strict=True):
            for name, made_of in (("part", train), ("all", every)):
                found[name][test] += tested(source, train, test, made_of, seed) / options.seeds
        print(f"seed {seed}: {time.perf_counter() - begin:.0f} s", flush=True)
    for place, name in enumerate(("accuracy", "log loss")):
        part, whole = (found[made][:, place] for made in ("part", "all"))
        each = whole - part
        reach = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
        print(
            f"{name}: word pieces of the training part {part.mean():.4f}, of all sentences {whole.mean():.4f}, "
            f"difference {each.mean():+.4f} ({each.mean() - reach:+.4f} to {each.mean() + reach:+.4f})"
        )


if __name__ == "__main__":
    main()
