"""What holds for every source, whatever its examples come from."""

import jax
import numpy as np

from jaxdl import data


class Own(data.Source):
    """The least that a source of one's own has to define; notes what is read."""

    def __init__(self, examples, **attributes):
        self.examples, self.asked = examples, []
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.examples[index]


def assert_trees_equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def row(tree, index):
    return jax.tree.map(lambda array: array[index], tree)


def check_contract(source: data.Source, *, exact_shapes: bool = True) -> None:
    """Fails where what a source says of itself does not agree with its examples; they have to be three or more."""
    count = len(source)
    assert count >= 3
    examples = [source[i] for i in range(count)]
    check_says_what_it_gives(source, examples, exact_shapes)
    for indices in ([], [1], [*range(count)][::-1], [2, 0, 2]):
        check_part(source, examples, source.take(np.array(indices, np.int64)), indices)
    assert source.take(np.arange(count)).fingerprint() == source.fingerprint()
    some = np.array([2, 0, 1])
    again = source.take(some).take(np.array([1, 2]))
    check_part(source, examples, again, [0, 1])
    assert again.fingerprint() == source.take(some[[1, 2]]).fingerprint() != source.fingerprint()
    groups = np.array([f"p{i % 2}" for i in range(count)])
    regrouped = data.with_groups(source, groups)
    check_says_what_it_gives(regrouped, examples, exact_shapes)
    assert list(regrouped.groups) == list(groups)
    assert list(regrouped.take(some).groups) == list(groups[some])
    assert regrouped.fingerprint() != source.fingerprint()
    assert regrouped.take(some).fingerprint() != source.take(some).fingerprint()


def check_says_what_it_gives(source: data.Source, examples: list, exact_shapes: bool) -> None:
    count = len(examples)
    assert isinstance(source, data.Source)
    assert len(source) == count
    targets = source.targets()
    for i, example in enumerate(examples):
        assert_trees_equal(source[i], example)
        assert ("y" in example) == (targets is not None)
        assert_trees_equal(row(targets, i), example.get("y"))
    spec = source.spec()
    assert jax.tree.structure(spec) == jax.tree.structure(examples[0])
    said = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(spec)]
    assert said == [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(examples[0])]
    occurring = {np.shape(jax.tree.leaves(example["x"])[0]) for example in examples}
    assert source.shapes() == occurring if exact_shapes else source.shapes() >= occurring
    held = source.stacked()
    for i, example in enumerate(examples if held is not None else ()):
        assert_trees_equal(row(held, i), example["x"])
    hashes = source.hashes()
    assert (hashes.shape, hashes.dtype) == ((count,), np.uint64)
    for i in range(count):
        for j in range(i):
            if hashes[i] == hashes[j]:  # the reverse need not be: a picture may lie in two formats
                assert_trees_equal(examples[i]["x"], examples[j]["x"])
    assert len(source.fingerprint()) == 64
    assert source.fingerprint() == source.fingerprint()


def check_part(source: data.Source, examples: list, part: data.Source, indices: list[int]) -> None:
    assert isinstance(part, data.Source)
    assert len(part) == len(indices)
    for i, index in enumerate(indices):
        assert_trees_equal(part[i], examples[index])
    if indices:
        check_says_what_it_gives(part, [examples[i] for i in indices], exact_shapes=False)
    np.testing.assert_array_equal(part.hashes(), source.hashes()[indices])
    for name in ("groups", "times", "names", "texts"):
        values, taken = getattr(source, name), getattr(part, name)
        assert (values is None) == (taken is None)
        assert values is None or list(taken) == [values[i] for i in indices]
    for name in ("name", "class_names", "columns", "preprocessing"):
        assert getattr(part, name) == getattr(source, name)
