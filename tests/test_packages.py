"""What messages tell people to install: the packages themselves, under the names that the extras here require."""

import configparser
import re
from pathlib import Path

HOME = Path(__file__).parents[1]


def test_messages_name_packages_that_the_extras_require():
    """Never ``jaxdl[…]``: the index has another project of that name."""
    setup = configparser.ConfigParser()
    setup.read(HOME / "setup.cfg")
    wanted = "\n".join(setup["options.extras_require"].values())
    known = set(re.findall(r"^([A-Za-z][\w-]*(?:\[\w+\])?)", wanted, re.MULTILINE))
    assert {"torch", "wandb", "tensorboardX", "tensorflow-datasets", "jax[tpu]", "jax[cuda13]"} <= known
    told = []
    for file in (HOME / "jaxdl").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            for named in re.findall(r"pip install ((?:[\w'\[\]-]+ ?)+)", line):
                told += [(file.name, word.strip("'")) for word in named.split() if not word.startswith("-")]
    assert len(told) >= 5
    sentences = {"or", "brings", "the"}  # words of the message that follow
    assert {package for _, package in told if package not in known} <= sentences, told


def test_no_page_sends_people_to_the_other_project():
    pages = [*HOME.glob("*.md"), *(HOME / "colab").rglob("*.ipynb"), *(HOME / "experiments").rglob("*.*")]
    assert len(pages) > 20
    for file in pages:
        if file.suffix != ".pyc":
            assert not re.search(r"pip install [^\n]*\bjaxdl\[", file.read_text(encoding="utf-8")), file
