"""A cloud in a folder, for tests of experiments/launch: `gcloud`, and the programs that a machine of it has.

Run as ``python fake_cloud.py PROGRAM ARGUMENTS…``, with these in the folder ``$FAKE_CLOUD``:

- ``plays.json``: for each machine that is created, in order, what it does: ``states`` of its request, the last of which
  stays; ``workers``; ``follow_breaks`` after so many lines; ``save_breaks``: the machine goes in that save;
  ``ls_fails``;
- ``calls.jsonl``: what `gcloud` was called with; ``installs.jsonl``: what `uv` was;
- ``bucket/B/…``: what is at gs://B/…; ``machine-M/worker-W``: the homes; ``machine-M/gone``: it was taken away.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

WORLD = Path(os.environ["FAKE_CLOUD"])
REQUEST = WORLD / "request.json"


def note(name, value):
    with (WORLD / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(value) + "\n")


def count(name):
    """How often this was called with this name, 1 at first."""
    file = WORLD / f"count-{name}"
    number = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(number))
    return number


def machine():
    return json.loads(REQUEST.read_text())["machine"] if REQUEST.exists() else None


def play(number):
    plays = json.loads((WORLD / "plays.json").read_text())
    return plays[min(number, len(plays) - 1)]


def taken_away():
    """Ends the machine on which this runs, with all its processes and files."""
    home = WORLD / f"machine-{os.environ['FAKE_MACHINE']}"
    (home / "gone").touch()
    for worker in home.glob("worker-*"):
        shutil.rmtree(worker, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def option(arguments, name, default=None):
    return next((word.split("=", 1)[1] for word in arguments if word.startswith(f"{name}=")), default)


def queued_resources(verb, arguments):
    if verb == "create":
        number = count("machines") - 1
        for worker in range(play(number).get("workers", 1)):
            (WORLD / f"machine-{number}" / f"worker-{worker}").mkdir(parents=True)
        REQUEST.write_text(json.dumps({"machine": number}))
    elif verb == "delete":
        REQUEST.unlink()
    elif verb == "describe":
        print("state: {failedData: no capacity}")
    elif REQUEST.exists():  # list
        states = play(machine())["states"]
        gone = (WORLD / f"machine-{machine()}" / "gone").exists()
        looks = count(f"looks-{machine()}")
        print("SUSPENDED" if gone else states[min(looks, len(states)) - 1])
    return 0


def tpu_vm(verb, arguments):
    number = machine()
    if number is None or (WORLD / f"machine-{number}" / "gone").exists():
        return 1
    home = WORLD / f"machine-{number}"
    workers = sorted(home.glob("worker-*"))
    if verb == "describe":
        addresses = ";".join(f"10.0.0.{worker.name[7:]}" for worker in workers)
        facts = {"networkEndpoints[].ipAddress": addresses, "acceleratorType": "v5litepod-8", "state": "READY"}
        print(facts[option(arguments, "--format").removeprefix("value(").removesuffix(")")])
        return 0
    chosen = workers if option(arguments, "--worker") == "all" else workers[:1]
    if verb == "scp":
        *sources, target = [word for word in arguments if not word.startswith("-")]
        if target == "jaxdl:":
            for worker in chosen:
                for source in sources:
                    shutil.copy(source, worker)
        else:
            shutil.copy(chosen[0] / sources[0].removeprefix("jaxdl:"), target)
        return 0
    codes = [ssh(worker, option(arguments, "--command"), number) for worker in chosen]
    return 255 if (home / "gone").exists() else max(codes)


def ssh(worker, command, number):
    environment = {**os.environ, "HOME": str(worker), "FAKE_MACHINE": str(number), "FAKE_WORKER": worker.name[7:]}
    kept = play(number).get("follow_breaks")
    if kept and "follow" in command and count("follows") == 1:
        with subprocess.Popen(["bash", "-c", command], cwd=worker, env=environment, stdout=subprocess.PIPE) as shown:
            for _ in range(kept):
                sys.stdout.write(shown.stdout.readline().decode())
            shown.kill()
        return 255
    return subprocess.run(["bash", "-c", command], cwd=worker, env=environment, check=False).returncode


def place(address):
    return WORLD / "bucket" / address.removeprefix("gs://") if address.startswith("gs://") else Path(address)


def storage(verb, arguments):
    source, *more = [word for word in arguments if not word.startswith("--")]
    if verb == "ls" and play(int(os.environ["FAKE_MACHINE"])).get("ls_fails"):
        return "ERROR: the service is unavailable."
    if source != "-" and not place(source).exists():
        return "ERROR: (gcloud.storage) One or more URLs matched no objects."
    if verb == "cat":
        print(place(source).read_text(), end="")
    elif verb == "rm":
        shutil.rmtree(place(source))
    elif verb == "cp":
        place(more[0]).parent.mkdir(parents=True, exist_ok=True)
        place(more[0]).write_text(sys.stdin.read())
    elif verb == "rsync":
        rsync(place(source), place(more[0]), "--delete-unmatched-destination-objects" in arguments)
    return 0


def rsync(source, target, delete):
    """As the real one a bucket holds no empty folders, and links to files are left out."""
    files = [file for file in sorted(source.rglob("*")) if file.is_file() and not file.is_symlink()]
    saving = "-state" in str(target)
    breaks = saving and play(int(os.environ["FAKE_MACHINE"])).get("save_breaks") == count("saves")
    for file in files[:1] if breaks else files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    if breaks:
        taken_away()
    for file in list(target.rglob("*")) if delete else []:
        if file.is_file() and source / file.relative_to(target) not in files:
            file.unlink()


def gcloud(arguments):
    note("calls", arguments)
    words = [word for word in arguments if word != "alpha"]
    if words[0] == "storage":
        return storage(words[1], words[2:])
    return (queued_resources if words[2] == "queued-resources" else tpu_vm)(words[3], words[4:])


def uv(arguments):
    """The environment that it makes has the programs of ``$FAKE_CLOUD/programs``."""
    note("installs", arguments)
    if arguments[0] == "venv":
        Path("env/bin").mkdir(parents=True, exist_ok=True)
    for program in (WORLD / "programs").iterdir():
        copy = shutil.copy(program, "env/bin")
        os.chmod(copy, os.stat(copy).st_mode | stat.S_IXUSR)
    return 0


def curl(arguments):
    assert arguments[-1].endswith("/instance/attributes/agent-worker-number"), arguments
    print(os.environ["FAKE_WORKER"], end="")
    return 0


def sudo(arguments):
    """Folders that are shared are links to that of the first worker, whose address ends with 0."""
    note("sudo", [os.environ["FAKE_WORKER"], *arguments])
    if arguments[0] == "exportfs":
        (WORLD / f"exported-{arguments[-1].split(':')[0]}").write_text(str(Path.cwd() / "work"))
    elif arguments[0] == "mount":
        exported = WORLD / f"exported-10.0.0.{os.environ['FAKE_WORKER']}"
        if not exported.exists():
            return 32
        assert arguments[-2].startswith("10.0.0.0:"), arguments
        Path("work").rename("covered")
        Path("work").symlink_to(exported.read_text())
    return 0


def mountpoint(arguments):
    return 0 if Path(arguments[-1]).is_symlink() else 32


def dpkg(arguments):
    return 1  # nothing is installed


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
