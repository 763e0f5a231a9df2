"""Questions whose answer a small network can learn to find."""

import json

import numpy as np


def squad_file(path, count=12, answers=1, seed=0):
    """Questions "good?" about texts, in which the answer follows after the word of the question."""
    rng = np.random.default_rng(seed)
    articles = []
    for i in range(count):
        words = list(rng.choice(["a", "day", ","], rng.integers(8, 60)))
        place = int(rng.integers(0, len(words) - 1))
        words[place] = "good"
        words[place + 1] = "bad days"
        text = " ".join(words)
        start = text.index("bad")
        known = [{"text": "bad days", "answer_start": start}, {"text": "bad", "answer_start": start}][:answers]
        asked = {"id": f"q{i}", "question": "good?", "answers": known}
        articles.append({"title": f"t{i // 2}", "paragraphs": [{"context": text, "qas": [asked]}]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return path
