"""Files in SQuAD's form: what is read, and what is refused."""

import copy
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from source_contract import check_contract

from jaxdl import data
from jaxdl.errors import InputError

TEXT = "  The Rhine rises in the Alps. It flows to Rotterdam."


def question(name, answer="the Alps", **more):
    return {
        "id": name,
        "question": f"Where {name}?",
        "answers": [{"text": answer, "answer_start": TEXT.index(answer)}],
        **more,
    }


HELD = {
    "version": "1.1",
    "data": [
        {
            "title": "Rhine",
            "paragraphs": [
                {"context": TEXT, "qas": [question("a"), question("b", " Rotterdam")]},
                {
                    "context": "Alps " + TEXT,
                    "qas": [{**question("c"), "answers": [{"text": "Alps", "answer_start": 0}]}],
                },
            ],
        },
        {"title": "Elbe", "paragraphs": [{"context": TEXT, "qas": [question("d", is_impossible=False)]}]},
    ],
}


def written(folder, held, name="dev.json"):
    path = folder / name
    text = held if isinstance(held, bytes) else json.dumps(held).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def changed(place, value):
    """`HELD` with another value at a place, a path of keys; None to leave it out."""
    held = copy.deepcopy(HELD)
    *path, last = place
    at = held
    for key in path:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return held


@pytest.mark.parametrize("name", ["dev.json", "dev.json.gz"])
def test_questions_are_read_with_their_answers_and_articles(tmp_path, name):
    path = written(tmp_path, HELD, name)
    source = data.load(path)
    check_contract(source)
    assert source.names == ["a", "b", "c", "d"]
    assert source.groups.tolist() == ["Rhine"] * 3 + ["Elbe"]
    assert source[1]["x"] == {"first": "Where b?", "second": TEXT}
    y = source.targets()
    assert [TEXT[a:b] for a, b in zip(y["start"][:2], y["end"][:2], strict=True)] == ["the Alps", "Rotterdam"]
    assert json.loads(str(y["answers"][1])) == [" Rotterdam"]
    assert source.notes == ("2 articles: the questions about one stay together in every division",)
    assert len(set(data.squad(path, groups="context").groups)) == 2
    assert data.squad(path, groups=None).groups is None


def test_questions_without_an_answer_are_left_out_and_counted(tmp_path):
    held = changed(("data", 1, "paragraphs", 0, "qas", 0), question("d") | {"is_impossible": True, "answers": []})
    source = data.squad(written(tmp_path, held))
    assert len(source) == 3
    assert "1 question without an answer (is_impossible) left out" in source.notes


def test_to_predict_answers_need_not_be_known(tmp_path):
    path = written(tmp_path, changed(("data", 0, "paragraphs", 0, "qas", 0, "answers"), None))
    assert data.load(path, labelled=False).targets() is None
    with pytest.raises(InputError, match=r"dev\.json': 1 of 4 questions have no answers, the first 'a'"):
        data.squad(path)


QAS = ("data", 0, "paragraphs", 0, "qas")
BAD = [
    (b'{"data": [\n{"title"}]}', r"no JSON: .* in line 2, column"),
    (b"\xff\xfe{}", r"no UTF-8 text \(.* at byte 0, on line 1\)"),
    (b"[" * 100_000, "nested too deeply|no JSON"),
    ({"version": "1.1"}, "has no 'data'"),
    ([], "has no 'data'"),
    ({"data": []}, "holds no questions"),
    ({"data": [3]}, "'data' is no list of objects"),
    (changed(("data", 0, "paragraphs"), None), "'paragraphs' is no list"),
    (changed((*QAS, 0, "question"), 5), "no text for a 'question'"),
    (changed((*QAS, 0, "question"), " "), "question of 'a' is empty"),
    (changed((*QAS, 0, "id"), "b"), "id 'b' is that of two questions"),
    (changed((*QAS, 0, "answers", 0, "answer_start"), 1), "'the Alps' of 'a' does not stand at its answer_start, 1"),
    (changed((*QAS, 0, "answers", 0, "answer_start"), "1"), "'the Alps' of 'a' .*: there is nothing"),
    (changed((*QAS, 0, "answers", 0, "answer_start"), -5), "of 'a' .* answer_start, -5"),
    (changed((*QAS, 0, "answers", 0, "text"), ""), "the answer '' of 'a'"),
    (changed((*QAS, 0, "answers"), {}), "'answers' is no list"),
]


@pytest.mark.parametrize(("held", "said"), BAD, ids=range(len(BAD)))
def test_other_files_are_refused_by_what_is_wrong(tmp_path, held, said):
    with pytest.raises(InputError, match=said) as raised:
        data.squad(written(tmp_path, held))
    assert "dev.json" in str(raised.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.json' cannot be read \(No such file"):
        data.load(tmp_path / "none.json")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(json.dumps(HELD).encode())[:-30])
    (tmp_path / "plain.json.gz").write_text("{}")
    for name in ("cut", "plain"):
        with pytest.raises(InputError, match=f"{name}.json.gz"):
            data.squad(tmp_path / f"{name}.json.gz")
    with pytest.raises(InputError, match="groups is 'page'"):
        data.squad(written(tmp_path, HELD), groups="page")


@pytest.mark.skipif("JAXDL_REAL_DATA" not in os.environ, reason="XQuAD is looked for in JAXDL_REAL_DATA")
def test_xquad_is_read():
    path = Path(os.environ["JAXDL_REAL_DATA"]) / "xquad_en.json.gz"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    source = data.squad(path)
    assert (len(source), len(set(source.groups)), len({text for _, text in source.held})) == (1190, 48, 240)
    y = source.targets()
    for (_, text), start, end, known in zip(source.held, y["start"], y["end"], y["answers"], strict=True):
        assert text[start:end] == json.loads(str(known))[0].strip()
    assert np.array_equal(data.subset(source, [5]).targets()["start"], y["start"][5:6])
