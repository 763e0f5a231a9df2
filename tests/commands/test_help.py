"""The first screen of a command's help, and the names that other tools have for its options."""

import inspect
import re

import pytest
import tyro
from command_line import call, jaxdl_command, refused

from jaxdl import cli
from jaxdl.cli_options import registry
from jaxdl.commands import help as first
from jaxdl.commands.other_names import CALLED, INSTEAD


def parsed(command, words):
    """The arguments with which a command line would call its command."""
    held = []

    def recorder(*args, **options):
        held.append(options)

    recorder.__wrapped__, recorder.__signature__ = cli.COMMANDS[command], inspect.signature(cli.COMMANDS[command])
    tyro.cli(recorder, args=words, registry=registry)
    return held[0]


@pytest.mark.parametrize("command", first.FIRST)
def test_the_first_screen_shows_few_options_and_all_that_are_needed(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    said = jaxdl_command(f"{command} --help")
    shown = re.findall(r"^  (--[a-z-]+)", said, re.MULTILINE)
    assert shown == list(first.FIRST[command])
    assert 5 <= len(shown) <= 9
    assert len(said.splitlines()) <= 30
    options = first.options_of(cli.COMMANDS[command])
    assert {name for name, option in options.items() if option.required} <= set(shown)
    more = int(re.search(r"shows (\d+) more", said)[1])
    every = re.findall(r"^[ │]*(--[a-z][a-z-]+)", jaxdl_command(f"{command} --help-all"), re.MULTILINE)
    assert more == len(set(every)) - len(shown)


@pytest.mark.parametrize("command", first.FIRST)
def test_the_examples_of_the_first_screen_can_be_given(command):
    words = []
    for option, (example, _) in first.FIRST[command].items():
        words += [option, *example.split()]
    parsed(command, words)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_options_are_those_that_tyro_knows(command):
    """Each is found in the help that tyro draws, with or without no-."""
    every = jaxdl_command(f"{command} --help-all")
    known = first.options_of(cli.COMMANDS[command])
    for option in known:
        assert re.search(rf"{option.replace('--no-', '--(no-)?')}\b", every) or f"--no-{option[2:]}" in known, option
    shown = set(re.findall(r"^[ │]*(--[a-z][a-z-]+)", every, re.MULTILINE))
    assert shown <= known.keys()


OTHERS = [
    ("finetune", "--lr 1", "--learning-rate"),
    ("finetune", "--lr=1", "--learning-rate"),
    ("finetune", "--LR 1", "--learning-rate"),
    ("search", "-lr 1", "--learning-rate"),
    ("cross-validate", "--val-split 0.1", "--test-fraction"),
    ("finetune", "--val_split 0.1", "--validation-fraction"),
    ("cross-validate", "--metrics auc", "--metric"),
    ("cross-validate", "--resume", "same --out"),
    ("pretrain", "--num-classes 3", "leave it out"),
    ("inspect", "cnn --num-classes 3", "--num-outputs"),
    ("pretrain", "--batch 3", "--batch-size"),
    ("pretrain", "--wd 3", "--weight-decay"),
    ("finetune", "--pretrained x", "--init"),
    ("predict", "--init x", "--checkpoint"),
    ("convert", "--checkpoint x", "--from"),
    ("finetune", "--freeze-backbone", "--freeze-through body"),
    ("finetune", "--epoch 3", "--epochs"),
    ("finetune", "--learning-rat 3", "'--learning-rate'"),
]


@pytest.mark.parametrize(("command", "words", "named"), OTHERS)
def test_names_of_other_tools_lead_to_ours(command, words, named):
    given = next(word for word in words.split() if word.startswith("-")).partition("=")[0]
    said = refused(f"{command} {words}")
    assert f"{given}; " in said
    assert named in said.partition("; ")[2]


@pytest.mark.parametrize("ours", CALLED)
def test_what_an_option_is_called_is_an_option(ours):
    """Each stands in some command, and no name of another tool hides one of ours in it."""
    having = [command for command in cli.COMMANDS.values() if ours.split()[0] in first.options_of(command)]
    assert having
    for other in CALLED[ours].split():
        assert any(f"--{other}" not in first.options_of(command) for command in having), other


def test_no_name_leads_to_two_places():
    for said, names in INSTEAD.items():
        assert len(set(names.split())) == len(names.split()), said


@pytest.mark.parametrize(
    ("line", "missing"), [("predict --data digits", "--checkpoint and --out"), ("pretrain", "--out")]
)
def test_what_is_missing_is_named(line, missing):
    assert missing in refused(line)


@pytest.mark.parametrize("given", ["AdamW", "ADAMW", "adamw"])
def test_the_case_of_a_choice_does_not_matter(given):
    options = parsed("finetune", ["--data", "digits", "--out", "o", "--optimizer", given])
    assert options["training"].optimizer == "adamw"


def test_a_choice_in_python_leads_to_its_spelling():
    from jaxdl.errors import nearest

    assert "'adamw'" in nearest("AdamW", ["adam", "adamw", "sgd"])


def test_help_goes_before_all_else():
    """Where help is asked for, mistakes beside it do not matter."""
    code, out, err = call("finetune --lr 1 --help")
    assert (code, err) == (0, "")
    assert "--learning-rate" in out
