"""The numbers of a fixed list of runs, written before a change of the code and compared after it.

    python experiments/frozen_numbers.py write before          # with the old code
    python experiments/frozen_numbers.py compare before        # with the new code

A case counts as equal where all of its values agree to the last bit, as close where they agree to 1e-5 (relative to the
largest value of their kind). What the change moves on purpose is listed in `CHANGED` with the reason. The folder also
holds a checkpoint, a split, a result, a search and an ensemble that the old code wrote; `compare` loads them.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.parallel.layout import Layout

CLOSE = 1e-5
# values that differ on purpose, with the reason
AVERAGED = "AUC is the mean over folds, whose networks share no scale; two classes are ranked by logit differences"
TIES = "equal vote shares are ties, as in scikit-learn; rounding had ranked them"
ROUNDED = "log-odds that agree to 5 decimals are ties, which count half; a pair of them was held apart"
# case ("*" for all), part of the value's name
CHANGED: dict[tuple[str, str], str] = {
    ("*", "pooled.auc"): AVERAGED,
    ("probe", "knn.by_fold.auc"): TIES,
    ("many_options", "by_fold.auc"): ROUNDED,
    ("cached_features", "by_fold.auc"): ROUNDED,
}


def options(**given: Any) -> dict[str, Any]:
    """How a run is executed, in the words of the release at hand."""
    return {"execution": jaxdl.Execution(**given)} if hasattr(jaxdl, "Execution") else given


def parent() -> Any:
    return jaxdl.pretrain(jaxdl.create("cnn", 5), data.digits(range(5)), jaxdl.Plan(epochs=2))


def diabetes() -> Any:
    from sklearn.datasets import load_diabetes

    held = load_diabetes()
    return data.arrays(held.data.astype(np.float32), held.target.astype(np.float32))


def few(count: int = 200) -> Any:
    return data.subset(data.digits(range(5, 10)), range(0, 4 * count, 4))


def outputs_of(result: Any) -> np.ndarray:
    held = result.out_of_fold
    return np.asarray(held.logits if hasattr(held, "logits") else held.kept)


def of_result(result: Any) -> dict[str, Any]:
    scores = {k: [row[k] for row in result.folds if k in row] for k in ("accuracy", "r2", "loss", "mse", "mae")}
    return {
        "mean": result.mean,
        "std": result.std,
        "folds": {name: values for name, values in scores.items() if values},
        "interval": None if result.interval is None else [result.interval[k] for k in ("low", "high", "estimate")],
        "pooled": result.metrics["pooled"],
        "by_fold": result.metrics["folds"],
        "calibration": result.calibration,
        "outputs": outputs_of(result)[::7].tolist(),
        "index": result.out_of_fold.index[::7].tolist(),
        "curves": [[row[k] for k in sorted(row) if isinstance(row[k], float)] for row in result.curves],
    }


def classes() -> Any:
    plan = jaxdl.Plan(freeze_through="conv1", epochs=3, stage_lr={"head": 3.0})
    return of_result(jaxdl.cross_validate(parent(), few(), plan, folds=3, **options(fold_strategy="loop")))


def classes_at_once() -> Any:
    source, plan = few(), jaxdl.Plan(epochs=3, ema=0.9, label_smoothing=0.1, class_weights={"5": 2.0})
    made = jaxdl.cross_validate(jaxdl.create("mlp", 5), source, plan, folds=3, **options(fold_strategy="vmap"))
    return of_result(made)


def many_options() -> Any:
    plan = jaxdl.Plan(
        epochs=3,
        augment=("mixup",),
        accumulate=2,
        early_stopping=2,
        clip_norm=1.0,
        class_weights="balanced",
        freeze_through="body",
        unfreeze_every=1,
    )
    return of_result(jaxdl.cross_validate(parent(), few(), plan, folds=2, **options(fold_strategy="loop")))


def cached_features() -> Any:
    plan = jaxdl.Plan(epochs=4, freeze_through="body")
    return of_result(jaxdl.cross_validate(parent(), few(), plan, folds=3, **options(fold_strategy="vmap")))


def numbers() -> Any:
    plan = jaxdl.Plan(epochs=3)
    return of_result(
        jaxdl.cross_validate(jaxdl.create("mlp", 1), diabetes(), plan, folds=3, **options(fold_strategy="vmap"))
    )


def groups() -> Any:
    source = data.with_groups(few(), np.arange(200) // 5) if hasattr(data, "with_groups") else grouped(few())
    made = jaxdl.cross_validate(jaxdl.create("mlp", 5), source, jaxdl.Plan(epochs=2), folds=3, **options())
    return of_result(made) | {"bootstrap": interval_of(made, "bootstrap"), "wider": interval_of(made, "wider")}


def grouped(source: Any) -> Any:
    from jaxdl.data.source import with_groups

    return with_groups(source, np.arange(200) // 5)


def interval_of(result: Any, method: str) -> list[float]:
    from jaxdl.validation.statistics.intervals import interval

    found = interval(result, method)
    return [found.low, found.high, found.estimate]


def nested() -> Any:
    made = jaxdl.cross_validate(
        jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=2), folds=3, interval="nested", **options()
    )
    return of_result(made)


def compared() -> Any:
    results = {
        str(rate): jaxdl.cross_validate(
            jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=2, learning_rate=rate), folds=4, **options()
        )
        for rate in (1e-4, 1e-3, 1e-2)
    }
    found = {}
    for test in ("corrected-t", "mcnemar", "bootstrap"):
        made = jaxdl.compare(results, test=test)
        found[test] = [[pair.difference, pair.p, pair.adjusted] for pair in made.pairs]
    return found


def probe() -> Any:
    digits = few(220)
    x = np.stack([digits[i]["x"] for i in range(len(digits))]).reshape(220, -1).astype(np.float32) / 255
    y = np.array([digits[i]["y"] for i in range(len(digits))])
    made = jaxdl.probe(x, y, folds=3)
    return {head: of_result(made.result(head)) for head in made.heads}


def probe_numbers() -> Any:
    held = diabetes()
    x, y = (np.array([held[i][k] for i in range(len(held))]) for k in "xy")
    made = jaxdl.probe(np.float32(x), np.float32(y), folds=3)
    return {head: of_result(made.result(head)) for head in made.heads}


def search() -> Any:
    space = {"learning_rate": [1e-3, 1e-2], "batch_size": [16, 32]}
    if hasattr(jaxdl, "Searching"):
        how: dict[str, Any] = {"searching": jaxdl.Searching(inner_folds=2, seeds=2, criterion="metric")}
    else:
        how = {"inner_folds": 2, "seeds": 2}
    made = jaxdl.search(
        jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=2), space, folds=2, **how, **options(fold_strategy="vmap")
    )
    kept = [[row["configuration"], row["mean"], row["se"], row["loss"], *row["folds"]] for row in made.scores]
    return of_result(made.result) | {"scores": kept, "choices": list(made.choices), "final": made.final}


def halving() -> Any:
    space = {"learning_rate": "log:1e-4:1e-1"}
    if hasattr(jaxdl, "Searching"):
        chosen = jaxdl.Searching(strategy="halving", trials=6, eta=2, nested=False, criterion="metric")
        how: dict[str, Any] = {"searching": chosen}
    else:
        how = {"strategy": "halving", "trials": 6, "eta": 2, "nested": False}
    made = jaxdl.search(jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=4), space, folds=2, **how, **options())
    return {"scores": [[row["configuration"], row["mean"], row["epochs"]] for row in made.scores], "final": made.final}


def finetune() -> Any:
    source = few()
    train, held = data.subset(source, range(150)), data.subset(source, range(150, 200))
    made = jaxdl.finetune(parent(), train, jaxdl.Plan(epochs=3, freeze_through="conv1"), validation=held, **options())
    return of_checkpoint(made, held)


def of_checkpoint(made: Any, source: Any) -> dict[str, Any]:
    said = jaxdl.predict(made, source)
    rows = [[row[k] for k in sorted(row) if isinstance(row[k], float)] for row in made.history]
    return {"history": rows, "logits": np.asarray(said.logits).tolist(), "scores": said.scores}


def finetune_numbers() -> Any:
    source = diabetes()
    return of_checkpoint(jaxdl.finetune(jaxdl.create("mlp", 1), source, jaxdl.Plan(epochs=3), **options()), source)


def by_pmap() -> Any:
    """On four devices, in a process of its own."""
    plan, layout = jaxdl.Plan(epochs=2), Layout(parallel="pmap")
    return of_checkpoint(jaxdl.finetune(jaxdl.create("mlp", 5), few(), plan, **options(layout=layout)), few())


def over_devices() -> Any:
    """On four devices, in a process of its own."""
    plan = jaxdl.Plan(epochs=2)
    made = jaxdl.cross_validate(jaxdl.create("mlp", 5), few(), plan, folds=3, **options(fold_strategy="shard"))
    by_mesh = jaxdl.finetune(jaxdl.create("cnn", 5), few(), plan, **options())
    return {"shard": of_result(made), "mesh": of_checkpoint(by_mesh, few())}


def streaming() -> Any:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        source = few(60)
        for i in range(60):
            place = Path(folder) / source.class_names[source[i]["y"]]
            place.mkdir(exist_ok=True)
            Image.fromarray(source[i]["x"][..., 0]).save(place / f"{i:03}.png")
        images = data.folder(folder)
        made = jaxdl.cross_validate(
            jaxdl.create("cnn", 5), images, jaxdl.Plan(epochs=2), folds=2, **options(streaming=True, workers=0)
        )
        return of_result(made)


def resume() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        asked = itertools.count()
        work = jaxdl.RunFolder(Path(folder) / "run", save_every=0, should_stop=lambda: next(asked) > 3)
        run = {"plan": jaxdl.Plan(epochs=3), "init": jaxdl.create("mlp", 5), "source": few()}
        from jaxdl.training.resume import Interrupted

        try:
            jaxdl.finetune(**run, **options(work=work))
        except Interrupted:
            return of_checkpoint(jaxdl.finetune(**run, **options(work=Path(folder) / "run")), few())
        raise AssertionError("the run was not interrupted")


def learning_curve() -> Any:
    made = jaxdl.learning_curve(jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=2), folds=2, **options())
    return [[p["size"], p["mean"], p["std"], p["interval"]["low"], p["interval"]["high"]] for p in made.points]


def variance() -> Any:
    made = jaxdl.variance(jaxdl.create("mlp", 5), few(), jaxdl.Plan(epochs=1), splits=3, seeds=2, **options())
    return {"scores": made.scores.tolist(), "components": [[c.variance, c.low, c.high] for c in made.components]}


def ensemble() -> Any:
    plan = jaxdl.Plan(epochs=2)
    made = jaxdl.cross_validate(jaxdl.create("mlp", 5), few(), plan, folds=3, **options(keep_models=True))
    together = jaxdl.ensemble(made)
    return {
        "out_of_fold": together.out_of_fold(few()).logits.tolist(),
        "all": together.predict(data.subset(data.digits(range(5, 10)), range(1, 100, 4))).logits.tolist(),
    }


CASES: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        classes,
        classes_at_once,
        many_options,
        cached_features,
        numbers,
        groups,
        nested,
        compared,
        probe,
        probe_numbers,
        search,
        halving,
        finetune,
        finetune_numbers,
        by_pmap,
        over_devices,
        streaming,
        resume,
        learning_curve,
        variance,
        ensemble,
    )
}
SEVERAL = ("by_pmap", "over_devices")  # need devices


def run_case(name: str) -> Any:
    if name not in SEVERAL or "xla_force" in os.environ.get("XLA_FLAGS", ""):
        return json.loads(json.dumps(CASES[name]()))
    environ = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, __file__, "case", name], env=environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        if (folder / f"{name}.json").exists():
            continue
        print(name, flush=True)
        (folder / f"{name}.json").write_text(json.dumps(run_case(name)))
    source, plan = few(60), jaxdl.Plan(epochs=1)
    made = jaxdl.cross_validate(jaxdl.create("mlp", 5), source, plan, folds=2, **options(keep_models=True))
    made.save(folder / "result")
    jaxdl.save(made.models[0], folder / "checkpoint")
    numbers = jaxdl.finetune(jaxdl.create("mlp", 1), diabetes(), plan, **options())
    jaxdl.save(numbers, folder / "checkpoint-of-numbers")
    jaxdl.save_ensemble(jaxdl.ensemble(made), folder / "ensemble")
    from jaxdl.validation.splits import split_source

    split_source(source, "stratified", 2, 0).save(folder / "split.npz", source)
    space = {"learning_rate": [1e-3, 1e-2]}
    jaxdl.search(jaxdl.create("mlp", 5), source, plan, space, folds=2).save(folder / "search")
    said = [
        jaxdl.predict(one, held).logits[:5].tolist() for one, held in ((made.models[0], source), (numbers, diabetes()))
    ]
    kept = {"mean": made.mean, "predicted": said, "ensemble": jaxdl.ensemble(made).predict(source).logits[:5].tolist()}
    (folder / "files.json").write_text(json.dumps(kept))


def compare(folder: Path, only: list[str]) -> bool:
    fine = True
    for name in only or CASES:
        before, after = json.loads((folder / f"{name}.json").read_text()), run_case(name)
        rows = [row for row in _differences(before, after) if row[1] != row[2]]
        asked = [
            (row, why) for row in rows for (case, at), why in CHANGED.items() if case in (name, "*") and at in row[0]
        ]
        purposeful = {id(row) for row, _ in asked}
        others = [row for row in rows if id(row) not in purposeful]
        far = [row for row in others if not _close(*row[1:])]
        word = "DIFFERS" if far else "close" if others else "equal"
        size = max((_distance(*row[1:]) for row in others), default=0.0)
        print(f"{name:20} {word:8} {len(rows)} values differ, by {size:.1e} at most", flush=True)
        for at, one, other in far[:5]:
            print(f"    {at}: {one} before, {other} now")
        for (at, one, other), why in asked[:6]:
            print(f"    on purpose: {at}: {one} before, {other} now; {why}")
        fine = fine and not far
    return fine and (bool(only) or _files(folder))


def _differences(before: Any, after: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):  # what is new needs no counterpart
        return [row for key in before for row in _differences(before[key], after.get(key), f"{at}.{key}".strip("."))]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [row for i, (one, other) in pairs for row in _differences(one, other, f"{at}[{i}]")]
    return [(at, before, after)]


def _distance(one: Any, other: Any) -> float:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) / max(1.0, abs(one))
    return float("inf")


def _close(one: Any, other: Any) -> bool:
    return _distance(one, other) <= CLOSE


def _files(folder: Path) -> bool:
    """Whether what the old code wrote loads, and says the same."""
    kept, source = json.loads((folder / "files.json").read_text()), few(60)
    result = jaxdl.load_result(folder / "result")
    one, numbers = jaxdl.restore(folder / "checkpoint"), jaxdl.restore(folder / "checkpoint-of-numbers")
    checks = {
        "result": _close(kept["mean"], result.mean) and len(outputs_of(result)) == 60,
        "checkpoint": np.allclose(jaxdl.predict(one, source).logits[:5], kept["predicted"][0], atol=CLOSE),
        "numbers": np.allclose(jaxdl.predict(numbers, diabetes()).logits[:5], kept["predicted"][1], rtol=CLOSE),
        "ensemble": np.allclose(
            jaxdl.load_ensemble(folder / "ensemble").predict(source).logits[:5], kept["ensemble"], atol=CLOSE
        ),
        "split": _close(
            jaxdl.cross_validate(
                jaxdl.create("mlp", 5), source, jaxdl.Plan(epochs=1), splitter=folder / "split.npz", **options()
            ).mean,
            kept["mean"],
        ),
        "search": jaxdl.load_search(folder / "search").final in (0, 1),
    }
    for name, fine in checks.items():
        print(f"{name:20} {'loads and agrees' if fine else 'DIFFERS'}")
    return all(checks.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("write", "compare", "case"))
    parser.add_argument("folder")
    parser.add_argument("only", nargs="*", help="cases, by default all")
    given = parser.parse_args()
    if given.what == "case":
        print(json.dumps(CASES[given.folder]()))
    elif given.what == "write":
        write(Path(given.folder))
    else:
        raise SystemExit(not compare(Path(given.folder), given.only))


if __name__ == "__main__":
    main()
