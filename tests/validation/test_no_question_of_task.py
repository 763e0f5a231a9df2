"""Which task is asked is known in `jaxdl/tasks` alone: all other code asks the task for what it does."""

import ast
from pathlib import Path

import pytest

import jaxdl
from jaxdl.tasks import TASKS

ROOT = Path(jaxdl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
KINDS = {kind.__name__ for kind in TASKS.values()}
SOURCES = {"Arrays", "ImageFiles", "Joined", "Subset"}
# what is asked outside all the same, by file, and why
EXCEPTIONS = {
    "data/table.py": "makes targets of what a user gave: the kind of targets is what it is asked for",
    "data/table_targets.py": "likewise, of the fields of a table",
    "data/class_folders.py": "a folder without class folders is refused",
    "weights/checkpoint.py": "class names that are given with a model, and no task, are those of classes",
    "weights/hub_config.py": "a card of the hub lists names where there are any",
}


def names_in(node):
    """What is named by ``X``, ``a.X``, ``(X, Y)`` or ``X | Y``."""
    return {
        n.attr if isinstance(n, ast.Attribute) else n.id
        for n in ast.walk(node)
        if hasattr(n, "attr") or hasattr(n, "id")
    }


def where_truth_decides(tree):
    """Every expression whose truth alone decides."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node.test
        elif isinstance(node, ast.BoolOp):
            yield from node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.operand
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "bool":
            yield from node.args


def questions(code, place=""):
    """Line and what is asked there."""
    tree, found = ast.parse(code), []
    for node in where_truth_decides(tree):
        if isinstance(node, ast.Name | ast.Attribute) and "class_names" in (
            getattr(node, "id", ""),
            getattr(node, "attr", ""),
        ):
            found.append((node.lineno, "class_names tested for truth"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called == "isinstance":
                asked = names_in(node.args[1])
                if asked & KINDS or (asked & SOURCES and not place.startswith("data/")):
                    found.append((node.lineno, f"isinstance of {', '.join(sorted(asked & (KINDS | SOURCES)))}"))
            if called == "choose_task":
                given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "task")]
                if any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in given):
                    found.append((node.lineno, "choose_task with a name"))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            said = [n.value for side in sides for n in ast.walk(side) if isinstance(n, ast.Constant)]
            if set(TASKS) & {one for one in said if isinstance(one, str)}:
                found.append((node.lineno, f"compared with {', '.join(sorted(set(TASKS) & set(map(str, said))))}"))
            elif any(isinstance(s, ast.Attribute) and s.attr == "task" for s in sides) and any(
                isinstance(one, str) and one != "auto" for one in said
            ):
                found.append((node.lineno, "task compared with a text"))
        if isinstance(node, ast.Match):
            for case in node.cases:
                if names_in(case.pattern) & (KINDS | SOURCES):
                    found.append((node.lineno, "match of a task or source"))
    return sorted(set(found))


@pytest.mark.parametrize(
    "code",
    [
        "if result.class_names: pass",
        "x = 1 if not class_names else 2",
        "y = [a for a in b if a.class_names]",
        "isinstance(task, Regression)",
        "isinstance(task, (tasks.MultiLabel, int))",
        "isinstance(source, Arrays | Subset)",
        "choose_task(source, 'regression', purpose='')",
        "result.task == 'classification'",
        "other.task != 'own'",
        "task in ('classification', 'multilabel')",
    ],
)
def test_questions_are_found(code):
    assert questions(code)


@pytest.mark.parametrize(
    "code",
    [
        "tuple(source.class_names)",
        "choose_task(source, task, purpose='x')",
        "task == other.task",
        "isinstance(x, Task)",
    ],
)
def test_what_is_no_question_is_not(code):
    assert not questions(code)


ROOMS = sorted({path.relative_to(ROOT).parts[0] for path in FILES} - {"tasks"})


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_outside_tasks_asks_which_task_it_is(room):
    found = {}
    for path in FILES:
        place = path.relative_to(ROOT).as_posix()
        if path.relative_to(ROOT).parts[0] == room and place not in EXCEPTIONS:
            found |= {f"{place}:{line}": what for line, what in questions(path.read_text(), place)}
    assert found == {}


def test_exceptions_are_needed():
    assert [place for place in EXCEPTIONS if not questions((ROOT / place).read_text(), place)] == []
