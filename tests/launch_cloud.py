"""A cloud in a folder for tests of experiments/launch, and an experiment that runs on its machines."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LAUNCH = HERE.parent / "experiments" / "launch"
SCRIPT = LAUNCH / "tpu_vm.sh"

EXPERIMENT = """#!{python} -S
# Counts to six in two files, each of which must say the same, and notes how it was called. Of several workers the first
# one counts, once all are there, and the others wait for it.
import json, os, pathlib, signal, sys, time
sys.path.insert(0, {here!r})
import fake_cloud
fake_cloud.note("runs", [os.environ["FAKE_MACHINE"], os.environ["FAKE_WORKER"], *sys.argv[1:]])
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(exist_ok=True)
a, b = out / "a", out / "b"
done = int(a.read_text()) if a.exists() else 0
assert not done or done == int(b.read_text()), "half of a state"
print("from", done, flush=True)
behaviour = fake_cloud.play(int(os.environ["FAKE_MACHINE"]))
(out / ("worker-" + os.environ["FAKE_WORKER"])).touch()
while len(list(out.glob("worker-*"))) < int(os.environ.get("SKYPILOT_NUM_NODES", behaviour.get("workers", 1))):
    time.sleep(0.05)
if behaviour.get("lost_at"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # hangs
while os.environ["FAKE_WORKER"] != "0":
    if b.exists() and b.read_text() == "6":
        sys.exit()
    time.sleep(0.05)
lost = behaviour.get("lost_at")
for step in range(done + 1, 7):
    for file in (a, b):  # each whole, as jaxdl writes them
        pathlib.Path(f"{{file}}.new").write_text(str(step))
        pathlib.Path(f"{{file}}.new").replace(file)
    print("step", step, flush=True)
    time.sleep(behaviour.get("pace", 0))
    if lost == step and fake_cloud.count("lost") == 1:
        sys.exit(75)
    if behaviour.get("waits_at") == step:
        time.sleep(behaviour.get("waits", 60))
    if behaviour.get("goes_at") == step:
        saved = fake_cloud.WORLD / "bucket/mine/run-state/current"
        while not saved.exists():  # the first state is in the bucket
            time.sleep(0.05)
        fake_cloud.taken_away()
sys.exit(behaviour.get("code", 0))
"""


class Cloud:
    """A new cloud, whose machines do as the plays say."""

    def __init__(self, folder, *plays):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "programs").mkdir()
        for program in ("gcloud", "uv", "curl", "sudo", "mountpoint", "dpkg"):
            self.program(f"bin/{program}", f'#!/bin/sh\nexec {sys.executable} -S {HERE}/fake_cloud.py {program} "$@"\n')
        self.program("programs/jaxdl", EXPERIMENT.format(python=sys.executable, here=str(HERE)))
        (folder / "plays.json").write_text(json.dumps([{"states": ["ACTIVE"], **play} for play in plays or ({},)]))
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder),
            "FAKE_CLOUD": str(folder),
            "JAXDL_LAUNCH_POLL": "0.1",
            "JAXDL_LAUNCH_STOP": "1",
        }

    def program(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def start(self, *arguments, command=("jaxdl", "train", "--out", "run")):
        words = ["bash", SCRIPT, "--accelerator-type", "v5litepod-8", "--save-every", "1", *arguments, "--", *command]
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments, **more):
        with self.start(*arguments, **more) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def noted(self, name):
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def calls(self, *words):
        """Those that have these words."""
        return [call for call in self.noted("calls") if all(any(word in one for one in call) for word in words)]
