"""Data sets that TensorFlow Datasets has prepared, read without TensorFlow.

Nothing is downloaded or prepared here, and no data set's own code runs: what is read are the files that preparing left.
"""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.data.image_file import formats_of, to_pixels
from jaxdl.data.prepared import Spec, how_to_prepare, import_tfds, missing, prepared_folder
from jaxdl.data.source import Source
from jaxdl.data.table import few_enough
from jaxdl.data.table_roles import divided
from jaxdl.data.texts import Texts
from jaxdl.errors import InputError, nearest

TOGETHER = 256  # records that are read at a time where all are


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TfdsSource(Source):
    """Examples of a prepared data set, read and decoded when asked for; attributes as in `Source`.

    Attributes:
      records: gives the features of an example, images undecoded.
      x_feature: name of what the network is given.
      image_shape: ``(height, width, channels)`` as the data set declares it, None where it varies; None for numbers.
    """

    records: Any
    x_feature: str
    image_shape: tuple[int | None, int | None, int] | None
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    name: str

    @property
    def names(self) -> Sequence[str]:
        """The indices of the examples: they have no other names."""
        return [str(i) for i in range(len(self))]

    def targets(self) -> np.ndarray | None:
        return self.labels

    def shapes(self) -> set[tuple[int, int, int]]:
        """Every ``(height, width, channels)`` that occurs, without decoding an image."""
        if self.image_shape is None:
            return {self[0]["x"].shape}
        *size, channels = self.image_shape
        if None not in size:
            return {(*size, channels)}
        found = set()
        for first in range(0, len(self), TOGETHER):
            some = range(first, min(first + TOGETHER, len(self)))
            for index, encoded in zip(some, _read(self.records, some, self.x_feature, self.name), strict=True):
                with self._opened(encoded, index) as image:
                    found.add((image.height, image.width, channels))
        return found

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (value,) = _read(self.records, [int(index)], self.x_feature, self.name)
        if self.image_shape is None:
            example = {"x": np.atleast_1d(np.asarray(value, np.float32))}
        else:
            example = {"x": self._pixels(value, index)}
        if self.labels is not None:
            example["y"] = self.labels[index]
        return example

    def _opened(self, encoded: bytes, index: int) -> Any:
        from PIL import Image

        try:
            return Image.open(io.BytesIO(encoded), formats=formats_of())
        except Exception as error:  # decoders meet arbitrary bytes: there is no list of what they raise
            raise self._broken(index, error) from error

    def _pixels(self, encoded: bytes, index: int) -> np.ndarray:
        with self._opened(encoded, index) as image:
            try:
                return to_pixels(image, self.image_shape[-1])
            except Exception as error:
                raise self._broken(index, error) from error

    def _broken(self, index: int, error: Exception) -> InputError:
        problem = f"example {index} of {self.name} is no image that can be decoded ({error})"
        return InputError(problem, "prepare it again")


def _read(records: Any, indices: Sequence[int], feature: str, name: str) -> Sequence[Any]:
    """One feature of some examples."""
    try:
        found = [record[feature] for record in records.__getitems__(list(indices))]
        if any(value is None for value in found):  # a damaged record may lack features
            raise ValueError(f"they lack the feature '{feature}'")
    except Exception as error:  # see `_open`
        raise InputError(
            f"examples {indices[0]} to {indices[-1]} of {name} cannot be read ({error}); prepare it again"
        ) from error
    return found


def _all(records: Any, feature: str, name: str) -> list[Any]:
    """One feature of all examples."""
    found: list[Any] = []
    for first in range(0, len(records), TOGETHER):
        found += _read(records, range(first, min(first + TOGETHER, len(records))), feature, name)
    return found


def from_tfds(
    spec: str, split: str | None = None, text: Sequence[str] = (), target: Sequence[str] | None = None
) -> TfdsSource | Texts:
    """A source from a data set that TensorFlow Datasets has prepared as array_record.

    It is looked for in the folder that the environment's TFDS_DATA_DIR names, or ``~/tensorflow_datasets``. What the
    data set calls its supervised keys are the examples and their labels: classes (whole numbers without names are
    classes if they take at most 20 values and fewer than half as many as there are examples), or numbers to regress on.
    The labels are found by reading the split once, without decoding its images. Where all labels are negative, which
    is how a hidden test set is written, there are none. Where the examples are texts, all of them are read.

    Args:
      spec: ``tfds:NAME[/CONFIG][:VERSION][:SPLIT]``. The config may be left out if one alone is prepared; of several
        versions the latest is taken. The split is as TFDS writes it: ``train``, ``train[:80%]``, ``train+test`` or
        ``all``.
      split: taken where the data set has it and `spec` does not say one. If neither says one, there must be one alone.
      text: feature that is a text, or two whose texts are compared, instead of the first of the supervised keys.
      target: feature of the labels, instead of the second.

    Raises:
      InputError: if the data set is unknown, not prepared, or prepared in another format (with the commands that
        prepare it); if there is no such split; if its features are nothing that a network here could learn from.
    """
    said = Spec.parse(spec)
    tensorflow_datasets = import_tfds(spec)
    folder = prepared_folder(said, tensorflow_datasets)
    try:
        builder = tensorflow_datasets.builder_from_directory(folder)
    except Exception as error:  # files of the data set's own that are damaged fail in as many ways as there are fields
        raise InputError(f"what describes '{folder}' cannot be read ({error}); prepare it again") from error
    formats = {form.value for form in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise InputError(
            f"'{folder}' is prepared as {', '.join(sorted(formats))}, which takes TensorFlow to read; jaxdl reads "
            "array_record. Move that folder away, or set TFDS_DATA_DIR to another one, and prepare it again:\n"
            + how_to_prepare(said, folder.parents[said.dataset.count("/") + 1])
        )
    split = _choose_split(said, split, builder)
    features, (x, y) = builder.info.features, _keys(said, builder, text, target, tensorflow_datasets)
    decoders = _images_undecoded(features, tensorflow_datasets)
    records = _open(builder, split, decoders, said, spec)
    name = f"tfds:{said.dataset}:{folder.name}:{split}"
    of_texts = isinstance(features[x[0]], tensorflow_datasets.features.Text)
    image_shape = None if of_texts else _image_shape(x[0], features, said, tensorflow_datasets)
    labels, class_names = _labels(records, y, features, said, tensorflow_datasets)
    if of_texts:
        return _texts(records, x, labels, class_names, name)
    return TfdsSource(records, x[0], image_shape, labels, class_names, name)


def _open(builder: Any, split: str, decoders: dict[str, Any], said: Spec, spec: str) -> Any:
    try:
        return builder.as_data_source(split, decoders=decoders, file_format="array_record")
    except ImportError as error:
        raise missing(spec, error) from error
    except ValueError as error:
        splits = builder.info.splits
        listed = ", ".join(f"{name} ({info.num_examples} examples)" for name, info in splits.items())
        asked = split.partition("[")[0]
        raise InputError(
            f"the split '{split}' of '{said.full_name}' does not exist or is empty; it has: {listed}. Parts are "
            f"written train[:80%], sums train+test.{'' if asked in splits else nearest(asked, splits)}"
        ) from error
    except Exception as error:  # what array_record raises on files that are gone or damaged has no common kind
        raise InputError(f"the files of '{said.full_name}' cannot be read ({error}); prepare it again") from error


def _choose_split(said: Spec, asked: str | None, builder: Any) -> str:
    splits = list(builder.info.splits)
    if said.split is not None:
        return said.split
    if asked in splits:
        return asked
    if len(splits) == 1:
        return splits[0]
    raise InputError(
        f"'{said.full_name}' has the splits {', '.join(splits)}; say which: tfds:{said.full_name}:{splits[0]}"
    )


def _texts(
    records: Any, columns: tuple[str, ...], labels: np.ndarray | None, class_names: tuple[str, ...], name: str
) -> Texts:
    """Texts of one feature, or pairs of two."""
    held = [[_as_text(one) for one in _all(records, column, name)] for column in columns]
    texts = held[0] if len(held) == 1 else list(zip(*held, strict=True))
    names = [str(i) for i in range(len(texts))]
    return Texts(texts, labels, class_names, names=names, name=name, notes=(f"texts: {', '.join(columns)}",))


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _keys(
    said: Spec, builder: Any, text: Sequence[str], target: Sequence[str] | None, tensorflow_datasets: Any
) -> tuple[tuple[str, ...], str]:
    """The features that are learned from, and that of the labels.

    Raises:
      InputError: for features that are not there or no texts, and what does not say which they are.
    """
    features = builder.info.features
    text = divided(text, features)
    for name in (*text, *(target or ())):
        if name not in features:
            raise InputError(
                f"'{said.full_name}' has no feature '{name}'; it has: {', '.join(sorted(features))}."
                + nearest(name, features)
            )
    if len(text) > 2 or len(target or ("",)) > 1:
        raise InputError(f"'{said.full_name}': expected one or two features of texts, and one of labels")
    if odd := [name for name in text if not isinstance(features[name], tensorflow_datasets.features.Text)]:
        raise InputError(f"the feature '{odd[0]}' of '{said.full_name}' holds {features[odd[0]]!r:.60}, no texts")
    if text and target:
        return text, target[0]
    x, y = _supervised_keys(said, builder)
    return text or (x,), target[0] if target else y


def _supervised_keys(said: Spec, builder: Any) -> tuple[str, str]:
    keys, features = builder.info.supervised_keys, builder.info.features
    if keys is None or not all(isinstance(key, str) for key in keys[:2]):
        listed = "; ".join(f"{name}: {feature!r}" for name, feature in sorted(features.items()))
        raise InputError(
            f"'{said.full_name}' does not say which feature is the example and which its label (supervised keys: "
            f"{keys}). Its features: {' '.join(listed.split())}. Of texts say which, by --text-column and --target "
            "(from Python text=[…], target=[…]); save others as .npz or as class folders"
        )
    return keys[:2]


def _images_undecoded(features: Any, tensorflow_datasets: Any) -> dict[str, Any]:
    kinds, skip = tensorflow_datasets.features, tensorflow_datasets.decode.SkipDecoding
    found = {}
    for name, feature in features.items():
        if isinstance(feature, kinds.Image):
            found[name] = skip()
        elif isinstance(feature, kinds.FeaturesDict) and (inner := _images_undecoded(feature, tensorflow_datasets)):
            found[name] = inner
    return found


def _image_shape(
    x: str, features: Any, said: Spec, tensorflow_datasets: Any
) -> tuple[int | None, int | None, int] | None:
    """As declared, with 1 or 3 channels; None if the examples are numbers."""
    feature = features[x]
    if isinstance(feature, tensorflow_datasets.features.Image) and feature.np_dtype in (np.uint8, np.uint16):
        return (*feature.shape[:2], 1 if feature.shape[2] == 1 else 3)
    shape, dtype = feature.shape, feature.np_dtype
    numbers = isinstance(shape, tuple) and None not in shape and np.dtype(dtype).kind in "uifb"
    if not numbers or isinstance(feature, tensorflow_datasets.features.Image):
        raise InputError(
            f"the examples of '{said.full_name}' are {' '.join(repr(feature).split())}; expected images of 8 or 16 "
            "bits, texts, or numbers of one shape"
        )
    return None


def _labels(
    records: Any, y: str, features: Any, said: Spec, tensorflow_datasets: Any
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    feature = features[y]
    if feature.shape != ():
        raise InputError(
            f"the labels of '{said.full_name}' are {' '.join(repr(feature).split())}; expected one class or number for "
            "each example"
        )
    found = _all(records, y, said.full_name)
    if isinstance(feature, tensorflow_datasets.features.ClassLabel) and feature.num_classes:
        labels = np.array(found, np.int32)
        if len(labels) and (labels < 0).all():
            return None, ()
        return labels, tuple(feature.names)
    if np.dtype(feature.np_dtype).kind == "f":
        return np.array(found, np.float32), ()
    if np.dtype(feature.np_dtype).kind in "uib":
        values, labels = np.unique(np.array(found), return_inverse=True)
        if not few_enough(len(values), len(found)):
            return np.array(found, np.float32), ()
        return labels.astype(np.int32), tuple(map(str, values.tolist()))
    values, labels = np.unique(np.array(list(map(_as_text, found))), return_inverse=True)
    return labels.astype(np.int32), tuple(values.tolist())
