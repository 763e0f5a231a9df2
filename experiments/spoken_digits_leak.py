"""What a leak is worth: spoken digits, cross-validated with and without the speakers kept apart.

    JAXDL_REAL_DATA=FOLDER python experiments/spoken_digits_leak.py [--recordings 600] [--out DIR]

FOLDER holds fsdd_speech.npz (the Free Spoken Digit Dataset: 3,000 recordings by six people). Each recording becomes a
spectrogram of 32 steps of time by 32 bands of frequency, and the demo's CNN learns the digit from it. Folds that are
drawn without a thought have every speaker on both sides. Their score is about new recordings of these six people; the
question is nearly always about new people.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from rich.console import Console

import jaxdl
from jaxdl import data
from jaxdl.report.table import measure, print_table, results_table

STEPS, BANDS, WINDOW = 32, 32, 256  # samples are 8,000 a second: a window lasts 32 ms


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """``uint8[STEPS, BANDS, 1]``: log magnitudes of a recording, whatever its length and loudness, from 0 to 255."""
    samples = np.pad(np.float32(samples) / np.abs(samples).max(), WINDOW // 2)
    starts = np.linspace(0, len(samples) - WINDOW, STEPS).astype(int)
    windows = np.stack([samples[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    spectrum = np.abs(np.fft.rfft(windows))[:, 1 : 2 * BANDS + 1]  # up to 2 kHz: two neighbours are one band
    logs = np.log(spectrum.reshape(STEPS, BANDS, 2).mean(2) + 1e-3)
    return np.uint8(np.round(255 * (logs - logs.min()) / np.ptp(logs)))[..., None]


def spoken_digits(file: Path, recordings: int) -> data.Source:
    """A random part of the recordings; the groups are the speakers."""
    with np.load(file) as known:
        held = {name: known[name] for name in ("samples", "offsets", "digit", "speaker")}
    chosen = np.random.default_rng(0).permutation(len(held["digit"]))[:recordings]
    pictures = [spectrogram(held["samples"][held["offsets"][i] : held["offsets"][i + 1]]) for i in chosen]
    names = [str(digit) for digit in range(10)]
    return data.arrays(
        np.stack(pictures), held["digit"][chosen], groups=held["speaker"][chosen], class_names=names, name="digits"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, help="folder for the two results")
    options = parser.parse_args()
    if "JAXDL_REAL_DATA" not in os.environ:
        parser.error("set JAXDL_REAL_DATA to the folder that holds the data; see the top of this file")
    source = spoken_digits(Path(os.environ["JAXDL_REAL_DATA"]) / "fsdd_speech.npz", options.recordings)
    model, plan = jaxdl.create("cnn", num_outputs=10), jaxdl.Plan(epochs=options.epochs)
    results = {
        "speakers on both sides": jaxdl.cross_validate(
            model, source, plan, splitter="stratified", execution=jaxdl.Execution(allow="groups")
        ),
        "speakers kept apart": jaxdl.cross_validate(model, source, plan),  # auto heeds the groups
    }
    print_table(Console(), results_table(results))
    for name, result in results.items():
        low, high = (measure(result.metric, result.interval[end]) for end in ("low", "high"))
        print(f"{name}: 95 % interval {low} to {high}")
        if options.out:
            result.save(options.out / name.replace(" ", "-"))


if __name__ == "__main__":
    main()
