"""Command lines for tests, run in this process: a process of their own takes three seconds to start."""

import contextlib
import csv
import io
import re
import shlex
from pathlib import Path

from jaxdl import cli


def call(line):
    """Exit code, stdout and stderr of a command line without the word jaxdl."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(shlex.split(line))
        except SystemExit as ended:
            code = ended.code or 0
    return code, out.getvalue(), err.getvalue()


def jaxdl_command(line, code=0):
    """What a command line prints to stdout."""
    ended, out, err = call(line)
    assert ended == code, out + err
    return out


def says_what_was_read(out):
    """Whether nothing stands in `out` but what was read: a line for each source, and its notes."""
    sources, lines = set(), out.splitlines()
    for line in lines:
        if read := re.match(r"(.+): [\d,]+ examples?\b.*; ", line):
            sources.add(read[1])
    return all(line.startswith(tuple(f"{name}: " for name in sources)) for line in lines)


def refused(line):
    """The one line with which a mistake ends, on stderr."""
    code, out, err = call(line)
    assert code == 2, out + err
    assert says_what_was_read(out), out
    assert err.startswith("jaxdl: error: "), err
    assert err.count("jaxdl: error") == err.count("\n") == 1, err
    return err


def told_on_page(out):
    """The section of the page to which what is printed refers for what the numbers mean."""
    ((address, place),) = re.findall(r"^About .*: file://(\S+)#(\S+)$", out, re.MULTILINE)
    page = Path(address).read_text()
    assert f'<section id="{place}">' in page
    return page.partition(f'<section id="{place}">')[2].partition("</section>")[0]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
