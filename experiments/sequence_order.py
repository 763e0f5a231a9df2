"""How networks of text know the order of words: a lesson.

    python experiments/sequence_order.py [--quick] [--out DIR]

"Dog bites man" and "man bites dog" are the same words. A network that is to tell them apart must know where each word
stands. A recurrent network (rnn, lstm) reads them one after another: order is the order in which its state changes,
and what stood long ago has passed through every step since. Attention looks at all words at once, and so by itself at a
set: the place of each must be told, by a vector that is added to it (learned, sinusoidal), by turning queries and keys
(rotary), or by a bias of each distance (relative). Four questions ask for it, each of small networks from scratch:

- copy:    ``a c b | ? ? ?`` is to be answered ``a c b``: every symbol is asked for at the same distance. There is one
           network for each length.
- reverse: the answer is ``b c a``: the first answers stand near to what they are about, the last ones far from it.
- recall:  at each word, what was the first one? The distance grows with every word.
- pairs:   one a, one b and other words; which came first? Each sentence has a twin of the same words, in which a and b
           have traded places: who sees no order is right on exactly one of the two.

What to look for: without positions attention is no better than who knows which words there are, but not their order,
and names the most frequent one: the grey line. The further apart question and answer are, the more a recurrent network
forgets; attention reaches all places in one step. An lstm keeps one word as long as it is asked to, but has not learned
to keep sixteen in their order. Relative positions put far distances together (16 to 22 words are one to them): look at
reverse. Learned positions tell far places apart in pairs, and near ones hardly yet. What it costs is in the second
picture: a recurrent network takes as many steps one after another as the text has words, which a CPU does not mind;
attention compares every word with every other one. All of this is of small networks, 800 steps and one seed.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sequence_order_pictures import draw_accuracy, draw_times

import jaxdl
from jaxdl import data
from jaxdl.models.initialise import init_variables
from jaxdl.models.sequence import token_spec
from jaxdl.tasks.metric import percent

SYMBOLS = tuple("abcdefgh")
BAR, ASK, NOTHING = "|", "?", "-"  # between question and answer, what is to be answered, the tag of all else
TAGS = (NOTHING, *SYMBOLS)
WIDTH, VOCABULARY = 32, 24
ATTENTION = ("none", "learned", "sinusoidal", "rotary", "relative")
RECURRENT: dict[str, Any] = {"width": WIDTH, "features": 2 * WIDTH, "both_ways": False, "dropout": 0.0}
BLOCKS: dict[str, Any] = {"width": WIDTH, "depth": 2, "num_heads": 2, "dropout": 0.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", RECURRENT),
    "lstm": ("lstm", RECURRENT),
    **{f"attention, {kind}": ("transformer", {**BLOCKS, "positions": kind}) for kind in ATTENTION},
}
TOGETHER = 8
TIMED = ("rnn", "lstm", "attention, none", "attention, rotary", "attention, relative")  # of others it is much the same
TASKS = ("copy", "reverse", "recall", "pairs")

Accuracy = dict[int, float]  # by distance in words


@dataclasses.dataclass(frozen=True)
class Asked:
    """Sentences and their answers.

    Attributes:
      words: ``str[n, length]``.
      tags: the answer at each word; `NOTHING` where none is asked for.
      distance: in words from an answer to what it is about; 0 where none is asked for.
    """

    words: np.ndarray
    tags: np.ndarray
    distance: np.ndarray

    def take(self, rows: slice) -> "Asked":
        """Some of the sentences."""
        return Asked(self.words[rows], self.tags[rows], self.distance[rows])


def _different(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Rows of symbols, none of them twice; fewer where there are not as many."""
    drawn = rng.integers(0, len(SYMBOLS), (2 * count, length))
    _, first = np.unique(drawn, axis=0, return_index=True)
    return np.array(SYMBOLS)[drawn[np.sort(first)[:count]]]


def copy(rng: np.random.Generator, count: int, length: int, *, back: bool = False) -> Asked:
    """To repeat `length` symbols, or to give them from the last to the first."""
    given = _different(rng, count, length)
    bar, ask = (np.full((len(given), many), sign) for many, sign in ((1, BAR), (length, ASK)))
    before = np.full((len(given), length + 1), NOTHING)
    place = np.arange(length)
    far = np.concatenate([np.zeros(length + 1, int), 2 * place + 2 if back else np.full(length, length + 1)])
    return Asked(
        np.concatenate([given, bar, ask], 1),
        np.concatenate([before, given[:, ::-1] if back else given], 1),
        np.tile(far, (len(given), 1)),
    )


def recall(rng: np.random.Generator, count: int, length: int) -> Asked:
    """To say at every word what the first one was."""
    words = _different(rng, count, length + 1)
    return Asked(words, np.repeat(words[:, :1], length + 1, 1), np.tile(np.arange(length + 1), (len(words), 1)))


def pairs(rng: np.random.Generator, count: int, length: int) -> Asked:
    """To say at the end whether a or b came first. Every second sentence is the twin of the one before it.

    Distances are put together by `TOGETHER`: of each one there are few sentences.
    """
    words = rng.choice(SYMBOLS[2:], (count // 2, length))
    places = np.sort(np.stack([rng.choice(length, 2, replace=False) for _ in words]), 1)
    rows = np.arange(len(words))
    one, two = words.copy(), words.copy()
    for twin, order in ((one, "ab"), (two, "ba")):
        twin[rows, places[:, 0]], twin[rows, places[:, 1]] = order
    both = np.stack([one, two], 1).reshape(-1, length)
    tags, far = np.full((len(both), length + 1), NOTHING), np.zeros((len(both), length + 1), int)
    tags[:, -1] = np.tile(["a", "b"], len(words))
    far[:, -1] = np.repeat(-(-(places[:, 1] - places[:, 0]) // TOGETHER) * TOGETHER, 2)
    return Asked(np.concatenate([both, np.full((len(both), 1), ASK)], 1), tags, far)


def by_words_alone(asked: Asked) -> Accuracy:
    """Accuracy of who answers with the most frequent word of a sentence, of those that can be an answer."""
    answers = np.unique(asked.tags[asked.distance > 0])
    often = (asked.words[:, :, None] == answers).sum(1)
    return _by_distance(asked, answers[often.argmax(1)][:, None] == asked.tags)


def _by_distance(asked: Asked, right: np.ndarray) -> Accuracy:
    return {int(far): float(right[asked.distance == far].mean()) for far in np.unique(asked.distance) if far}


def learn(name: str, asked: Asked, train: int, epochs: int) -> Accuracy:
    """Accuracy of a model, trained on the first `train` sentences, on the others."""
    held, new = asked.take(slice(train)), asked.take(slice(train, None))
    length = asked.words.shape[1] + 2  # marks of beginning and end
    tokenizer = data.train_tokenizer([" ".join([*SYMBOLS, BAR, ASK])] * 2, VOCABULARY, "words")
    learned, tested = (
        data.tagged(part.words.tolist(), part.tags.tolist(), TAGS, tokenizer=tokenizer, length=length)
        for part in (held, new)
    )
    family, arguments = MODELS[name]
    longest = {"longest": 128} if family == "transformer" else {}
    model = jaxdl.create(family, len(TAGS), vocabulary=VOCABULARY, **arguments, **longest)
    plan = jaxdl.Plan(epochs=epochs, batch_size=50, learning_rate=5e-3)
    found = jaxdl.predict(jaxdl.finetune(model, learned, plan), tested)
    said = np.array(TAGS)[found.outputs["tags"][:, : new.words.shape[1]] - 1]
    return _by_distance(new, said == new.tags)


def processor_seconds(name: str, length: int, batch: int = 16, runs: int = 5) -> float:
    """Of one gradient of the outputs, the median of some; the time of the process, not of the clock."""
    family, arguments = MODELS[name]
    longest = {"longest": length} if family == "transformer" else {}
    model = jaxdl.create(family, len(TAGS), vocabulary=VOCABULARY, **arguments, **longest).for_each_token()
    variables = jax.jit(lambda key: init_variables(model, key, token_spec(length)))(jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (batch, length), np.int32)
    x = {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}
    step = jax.jit(jax.grad(lambda v: jax.nn.log_softmax(model.apply(v, x, train=True)).mean()))
    jax.block_until_ready(step(variables))
    taken = []
    for _ in range(runs):
        begin = time.process_time()
        jax.block_until_ready(step(variables))
        taken.append(time.process_time() - begin)
    return float(np.median(taken))


def in_words(task: str, found: Mapping[str, Accuracy], alone: Accuracy) -> list[str]:
    """What the accuracies of a task say, a line for each kind of behaviour.

    Args:
      task: its name.
      found: by model the accuracy at each distance.
      alone: see `by_words_alone`.
    """
    said: dict[str, list[str]] = {}
    for name, accuracy in found.items():
        near, far, lowest = accuracy[min(accuracy)], accuracy[max(accuracy)], min(accuracy, key=accuracy.__getitem__)
        if accuracy[lowest] >= 0.95:
            verdict = "right at every distance"
        elif max(accuracy[one] - alone[one] for one in accuracy) <= 0.1:
            verdict = "no better than by the words alone, without their order"
        else:
            first, last, least = (percent(share, decimals=0) for share in (near, far, accuracy[lowest]))
            ends = f"{first} at {min(accuracy)} words, {last} at {max(accuracy)}"
            if min(near, far) - accuracy[lowest] > 0.1:
                verdict, ends = "worse in the middle", f"{ends}, {least} at {lowest}"
            elif abs(near - far) > 0.1:
                verdict = f"{'worse' if near > far else 'better'} with distance"
            else:
                verdict = "in between at every distance"
            name += f" ({ends})"
        said.setdefault(verdict, []).append(name)
    return [f"{task}: {verdict}: {'; '.join(names)}" for verdict, names in said.items()]


def table(found: Mapping[str, Mapping[str, Accuracy]]) -> list[str]:
    """Accuracy at the shortest and the longest distance, a row for each model."""
    tasks = list(found)
    lines = [f"{'accuracy, nearest and farthest':32}" + "".join(f"{task:>18}" for task in tasks)]
    for name in next(iter(found.values())):
        ends = ((one[min(one)], one[max(one)]) for one in (found[task][name] for task in tasks))
        lines.append(f"{name:32}" + "".join(f"{f'{near:.2f} {far:.2f}':>18}" for near, far in ends))
    return lines


def questions(train: int, test: int, lengths: Sequence[int]) -> dict[str, list[Asked]]:
    """Of each task what is asked: of copy for each length, of the others for the longest."""
    rng, count, longest = np.random.default_rng(0), train + test, max(lengths)
    makers: dict[str, Callable[..., Asked]] = {"recall": recall, "pairs": pairs}
    return {
        "copy": [copy(rng, count, length) for length in lengths],
        "reverse": [copy(rng, count, longest, back=True)],
        **{task: [make(rng, count, 2 * longest)] for task, make in makers.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few models, sentences and epochs, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the two pictures")
    options = parser.parse_args()
    names = ("rnn", "attention, none", "attention, learned") if options.quick else tuple(MODELS)
    train, test, lengths, epochs = (100, 20, (3, 4), 2) if options.quick else (2000, 400, (4, 8, 16), 20)
    found: dict[str, dict[str, Accuracy]] = {task: {} for task in TASKS}
    alone = {}
    for task, several in questions(train, test, lengths).items():
        alone[task] = _together(by_words_alone(asked) for asked in several)
        for name in names:
            found[task][name] = _together(learn(name, asked, train, epochs) for asked in several)
            told = " ".join(f"{far}: {one:.2f}" for far, one in found[task][name].items())
            print(f"{task}, {name}: {told}", flush=True)
    steps = (16, 32) if options.quick else (16, 32, 64, 128, 256, 512)
    times = {name: {length: processor_seconds(name, length) for length in steps} for name in names if name in TIMED}
    said = (line for task in found for line in in_words(task, found[task], alone[task]))
    print("\n".join(["", *table(found), "", *said, ""]))
    for name, taken in times.items():
        print(f"{name:24} {'  '.join(f'{length}: {1e3 * seconds:.1f} ms' for length, seconds in taken.items())}")
    draw_accuracy(found, alone, options.out / "sequence_order.png")
    draw_times(times, options.out / "sequence_order_time.png")


def _together(parts: Iterable[Accuracy]) -> Accuracy:
    return {far: one for part in parts for far, one in part.items()}


if __name__ == "__main__":
    main()
