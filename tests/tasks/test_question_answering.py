"""Extractive question answering: windows, loss, prediction and scores against what defines them; and whole runs."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from command_line import jaxdl_command, refused
from libraries import library
from questions import squad_file
from safetensors.numpy import save_file
from word_pieces import word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing, WindowsPreprocessing
from jaxdl.data.preprocessing.windows import NONE, windows_for
from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.sequence import token_spec
from jaxdl.tasks import QuestionAnswering
from jaxdl.tasks.question_answering import LONGEST
from jaxdl.tasks.spans import exact_match, normalised, word_f1
from jaxdl.weights.bert import KEYS, to_config
from jaxdl.weights.keys import to_tensors

TASK = QuestionAnswering()
LETTERS = ("a", "good", "day", "bad", ",")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return word_pieces(tmp_path_factory.mktemp("pieces"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return data.squad(squad_file(tmp_path_factory.mktemp("squad") / "dev.json", answers=2))


def test_every_token_of_a_text_stands_in_a_window_at_its_place(tokenizer, source):
    """Windows overlap, begin with the question, and together hold the text as the tokenizer alone divides it."""
    made = windows_for(TextPreprocessing(tokenizer, 20, types=True), source)
    x = made.load(source)
    assert made.windows == x["tokens"].shape[1] > 2
    assert jax.tree.map(lambda leaf: leaf.shape[1:], x) == jax.tree.map(lambda leaf: leaf.shape, made.spec())
    for row in range(3):
        alone = made.stored(source[row])["x"]
        jax.tree.map(lambda one, every, row=row: np.testing.assert_array_equal(one, every[row]), alone, x)
    whole = TextPreprocessing(tokenizer, 100)
    for row, (question, text) in enumerate(source.held):
        alone = {name: one[0] for name, one in whole.load(data.texts([text])).items()}
        tokens = alone["tokens"][alone["mask"]][1:-1].tolist()
        asked = whole.load(data.texts([question]))
        places, found = x["carried"]["places"][row], {}
        for window in range(made.windows):
            of_text = places[window, :, 0] != NONE
            assert (places[window][~of_text] == NONE).all()
            if not x["mask"][row, window].any():
                assert window >= len([w for w in range(made.windows) if x["mask"][row, w].any()])
                continue
            head = asked["tokens"][0][asked["mask"][0]]
            np.testing.assert_array_equal(x["tokens"][row, window, : len(head)], head)
            np.testing.assert_array_equal(
                x["types"][row, window] == 1, x["mask"][row, window] & (x["types"][row, window] == 1)
            )
            for token, (begin, end) in zip(x["tokens"][row, window][of_text], places[window][of_text], strict=True):
                assert found.setdefault((begin, end), token) == token
        assert [found[span] for span in sorted(found)] == tokens
        words = [text[begin:end] for begin, end in sorted(found)]
        assert "".join(words) == text.replace(" ", "")


def by_hand(outputs, places, start, end):
    """Loss and answer of one example from the definitions, by loops."""
    spans = {
        (w, t): tuple(places[w, t]) for w in range(len(places)) for t in range(places.shape[1]) if places[w, t, 0] >= 0
    }
    chances = [np.exp([np.float64(outputs[w, t, k]) for w, t in spans]) for k in (0, 1)]
    chances = [dict(zip(spans, one / one.sum(), strict=True)) for one in chances]
    right = [0.0, 0.0]
    for w in range(len(places)):
        first = [t for t in range(places.shape[1]) if (w, t) in spans and spans[w, t][0] <= start < spans[w, t][1]]
        last = [t for t in range(places.shape[1]) if (w, t) in spans and spans[w, t][0] < end <= spans[w, t][1]]
        if first and last:
            right[0] += chances[0][w, first[0]]
            right[1] += chances[1][w, last[0]]
    best = max(
        (chances[0][w, t] * chances[1][w, u], spans[w, t][0], spans[w, u][1])
        for w, t in spans
        for u in range(t, min(t + LONGEST, places.shape[1]))
        if (w, u) in spans
    )
    return (-np.log(right).mean() if right[0] and right[1] else None), best


def test_loss_and_prediction_are_those_of_their_definition(tokenizer, source):
    made = windows_for(TextPreprocessing(tokenizer, 40), source)
    x = made.load(source)
    rng = np.random.default_rng(0)
    outputs = {
        "outputs": rng.normal(0, 3, (*x["tokens"].shape, 2)).astype(np.float32),
        "places": x["carried"]["places"],
    }
    targets = source.targets()
    device = TASK.device_targets(targets)
    loss, count = jax.jit(lambda o, t: TASK.loss(o, t, {}))(outputs, device)
    kept = jax.jit(lambda o, t: TASK.keep(o, t, {}))(outputs, device)
    assert made.windows > 1
    assert (np.asarray(count) == 1).all()
    for row in range(len(source)):
        nats, (chance, start, end) = by_hand(
            outputs["outputs"][row], outputs["places"][row], targets["start"][row], targets["end"][row]
        )
        assert float(loss[row]) == pytest.approx(nats, rel=1e-5)
        assert float(kept["nats"][row]) == pytest.approx(nats, rel=1e-5)
        assert (int(kept["start"][row]), int(kept["end"][row])) == (start, end)
        assert float(kept["score"][row]) == pytest.approx(np.log(chance), rel=1e-4)


def test_further_windows_that_only_pad_change_nothing(tokenizer, source):
    made = windows_for(TextPreprocessing(tokenizer, 40), source)
    more = WindowsPreprocessing(tokenizer, 40, windows=made.windows + 2)
    model = jaxdl.create("bert_tiny", 2, vocabulary=20, width=12, num_heads=3, depth=1, longest=40, pool="none")
    few, many = made.load(source), more.load(source)
    variables = model.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[:1], few))
    found = [
        jax.jit(lambda x: TASK.keep(model.apply(variables, x), TASK.device_targets(source.targets()), {}))(x)
        for x in (few, many)
    ]
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)


def test_an_answer_that_no_window_holds_has_no_part_in_the_loss():
    places = np.array([[[[NONE, NONE], [0, 3], [4, 7]]]])
    outputs = {"outputs": np.zeros((1, 1, 3, 2), np.float32), "places": places}
    loss, count = TASK.loss(outputs, {"start": np.array([8]), "end": np.array([12])}, {})
    assert (float(loss[0]), float(count[0])) == (0, 0)


ANSWERS = [
    ("The cat", ["cat"]),
    ("a cat sat", ["the cat sat on an mat", "cat sat."]),
    ("", ["dog"]),
    ("the", ["a"]),
    ("Fifty-two (52)", ["52", "fiftytwo 52"]),
    ("der Rhein", ["Rhine", "the Rhein,  river"]),
    ("in in in", ["in the in"]),
    ("über 3½ days", ["3½ days"]),
]


@pytest.mark.slow
def test_scores_are_those_of_torchmetrics():
    squad = library("torchmetrics").functional.text.squad
    for answer, known in ANSWERS:
        target = [{"answers": {"answer_start": [0] * len(known), "text": known}, "id": "1"}]
        found = squad([{"prediction_text": answer, "id": "1"}], target)
        assert 100 * exact_match(answer, known) == pytest.approx(float(found["exact_match"])), answer
        assert 100 * word_f1(answer, known) == pytest.approx(float(found["f1"]), abs=1e-4), answer


def test_scores_of_answers_by_hand():
    assert normalised("The  cat, a-b!") == "cat ab"
    assert exact_match("The cat", ["dog", "a cat."]) == 1
    assert word_f1("cat sat on mat", ["the cat", "a dog"]) == pytest.approx(2 * 1 / 5)
    assert (word_f1("the", ["an"]), word_f1("the", ["cat"])) == (1, 0)


# a head that is moved as a whole changes no probability: AdamW would make steps of the rounding of its bias
PLAN = jaxdl.Plan(epochs=2, batch_size=4, learning_rate=0.1, optimizer="sgd")
ARGUMENTS = dict(vocabulary=20, width=12, features=8, dropout=0.1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Questions to train on, and others to predict, with their tokenizer."""
    folder = tmp_path_factory.mktemp("parts")
    word_pieces(folder)
    files = [squad_file(folder / f"{count}.json", count, seed=count) for count in (16, 6)]
    return [data.squad(file, tokenizer=folder, length=40) for file in files]


@pytest.fixture(scope="module")
def model():
    return jaxdl.create("lstm", 1, **ARGUMENTS)


@pytest.fixture(scope="module")
def trained(parts, model):
    plan = jaxdl.Plan(epochs=60, batch_size=16, learning_rate=1e-2, eval_every=20)
    return jaxdl.train(model, parts[0], plan, validation=parts[1]).checkpoint


def test_it_learns_where_the_answer_is_and_predicts_it_in_words(trained, parts, tmp_path):
    assert trained.history[-1]["test_exact_match"] > 0.9
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "model"))
    assert isinstance(again.card.preprocessing, WindowsPreprocessing)
    found = jaxdl.predict(again, parts[1])
    assert found.scores["exact_match"] == pytest.approx(trained.history[-1]["test_exact_match"])
    frame = found.to_frame()
    assert (frame["answer"] == "bad days").mean() > 0.9
    assert frame["target"].tolist() == ["bad days"] * 6
    assert ((frame["confidence"] > 0) & (frame["confidence"] <= 1)).all()
    for (_, text), start, end, answer in zip(parts[1].held, frame["start"], frame["end"], frame["answer"], strict=True):
        assert text[start:end] == answer


def test_pairs_of_texts_are_answered_however_long_the_text_is(trained, parts):
    """A text that is longer than all of the training; the answer is far behind the first windows."""
    text = " ".join(["a day ,"] * 60 + ["good bad days a day"])
    found = jaxdl.predict(trained, [("good?", text), ("good?", parts[1].held[0][1])])
    assert trained.card.preprocessing.windows < 6
    assert found.predicted.tolist()[0] == "bad days"
    alone = jaxdl.predict(trained, [parts[1].held[0]])
    assert alone.predicted[0] == found.predicted[1]
    np.testing.assert_allclose(alone.outputs["score"][0], found.outputs["score"][1], rtol=1e-4)
    empty = jaxdl.predict(trained, [("good?", ""), ("", "a good day")])
    assert empty.predicted[0] == ""
    assert np.isfinite(empty.outputs["score"]).all()


def test_a_text_alone_is_refused(trained):
    with pytest.raises(InputError, match="a question and a text"):
        jaxdl.predict(trained, ["where is it?"])


def folds(model, source, way, **plan):
    how = jaxdl.Execution(fold_strategy=way, keep_models=True, allow=("duplicates", "near-duplicates"))
    return jaxdl.cross_validate(model, source, dataclasses.replace(PLAN, **plan), folds=2, execution=how)


def test_folds_are_articles_and_in_one_program_those_of_the_loop(parts, model, tmp_path):
    one, other = (folds(model, parts[0], way, group_by_length=True) for way in ("loop", "vmap"))
    for a, b in zip(one.models, other.models, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), a.variables, b.variables)
    np.testing.assert_allclose(one.out_of_fold.kept["nats"], other.out_of_fold.kept["nats"], rtol=1e-4)
    groups = np.array(parts[0].groups)[one.out_of_fold.index]
    assert not set(groups[one.out_of_fold.fold == 0]) & set(groups[one.out_of_fold.fold == 1])
    again = jaxdl.load_result(one.save(tmp_path / "result"))
    assert again.interval == one.interval
    assert again.to_frame()["answer"].tolist() == one.predicted.tolist()
    assert jaxdl.interval(again, metric="f1").low <= again.sample("f1").pooled_score


def test_who_knows_nothing_says_the_first_words(parts, model):
    result = folds(model, parts[0], "loop")
    known = [json.loads(answers) for answers in result.out_of_fold.target["answers"]]
    texts = [parts[0].held[i][1] for i in result.out_of_fold.index]
    said = [" ".join(text.split()[:2]) for text in texts]  # "bad days" are two words
    expected = np.mean([word_f1(one, answers) for one, answers in zip(said, known, strict=True)])
    (row,) = [one for one in result.baselines if one["folds"]]
    sizes = [fold["test"] for fold in result.folds]
    assert np.average(row["folds"]["f1"], weights=sizes) == pytest.approx(expected)
    assert row["name"] == QuestionAnswering.BASELINE
    assert "cross_entropy" not in row["folds"]


def test_a_metric_of_strings_chooses_the_epoch(parts, model):
    plan = jaxdl.Plan(epochs=4, batch_size=16, learning_rate=1e-2, early_stopping=3)
    trained = jaxdl.train(model, parts[0], plan, metrics="f1", validation=parts[1])
    assert trained.best_epoch is not None
    assert {"test_f1", "test_exact_match", "test_loss"} <= trained.checkpoint.history[-1].keys()


@pytest.mark.slow
def test_streamed_examples_train_as_those_in_memory(parts, model):
    """Dropout draws the same although those in memory are cut to the windows that they need."""
    plan = PLAN
    made = [
        jaxdl.finetune(model, parts[0], plan, execution=jaxdl.Execution(streaming=streaming))
        for streaming in (False, True)
    ]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), *(one.variables for one in made))


@pytest.mark.slow
def test_a_search_tells_exact_match(parts, model):
    space = {"learning_rate": [1e-3, 1e-2]}
    how = jaxdl.Execution(allow=("duplicates", "near-duplicates"))
    found = jaxdl.search(model, parts[0], PLAN, space, metrics="exact_match", folds=2, execution=how)
    assert np.isfinite(found.result.mean)


def test_other_networks_and_examples_are_refused(parts):
    with pytest.raises(InputError, match="gives no answer for each token"):
        jaxdl.pretrain(jaxdl.create("textcnn", 1, vocabulary=20), parts[0], PLAN)
    with pytest.raises(InputError, match="question answering needs places of each token"):
        TASK.fit_model(jaxdl.create("lstm", 1, **ARGUMENTS), token_spec(8))
    texts = data.texts(["a", "b"], ["x", "y"], tokenizer=None)
    with pytest.raises(InputError, match="the labels of texts are no answers"):
        jaxdl.pretrain(jaxdl.create("lstm", 1, **ARGUMENTS), texts, PLAN, task="question-answering")


@pytest.mark.slow
def test_an_ensemble_is_refused(parts, model):
    result = folds(model, parts[0], "loop")
    with pytest.raises(InputError, match="question-answering cannot be averaged"):
        jaxdl.ensemble(result).predict(parts[1])


@pytest.mark.slow
def test_transformers_network_answers_alike_and_comes_back_as_it_was(tmp_path):
    """`BertForQuestionAnswering` with drawn weights: its logits token by token, and the best part by these."""
    torch, transformers = library("torch"), library("transformers")
    torch.manual_seed(0)
    config = dict(vocab_size=20, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48)
    theirs = transformers.BertForQuestionAnswering(transformers.BertConfig(**config, max_position_embeddings=32)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise if "embeddings" in name else 2 * noise / parameter.shape[1] ** 0.5)
    theirs.save_pretrained(tmp_path / "hf")
    word_pieces(tmp_path / "hf")
    checkpoint = jaxdl.convert(tmp_path / "hf").checkpoint
    assert checkpoint.card.task == TASK
    pairs = [("good?", "a good day , bad days"), ("a day?", "bad bad a days"), ("?", "days , a good bad day a , day")]
    x = checkpoint.card.preprocessing.load(data.texts(pairs))
    given = {"input_ids": x["tokens"][:, 0], "attention_mask": x["mask"][:, 0], "token_type_ids": x["types"][:, 0]}
    with torch.no_grad():
        out = theirs(**{name: torch.tensor(value).long() for name, value in given.items()})
    logits = torch.stack([out.start_logits, out.end_logits], -1).numpy()
    found = jax.jit(checkpoint.model.apply)(checkpoint.variables, x)
    real = x["mask"][:, 0]
    assert logits[real].std(0).min() > 0.3
    np.testing.assert_allclose(found["outputs"][:, 0][real], logits[real], atol=1e-4)
    said = jaxdl.predict(checkpoint, pairs)
    for row, (_, text) in enumerate(pairs):
        places = x["carried"]["places"][row]
        _, (_, start, end) = by_hand(logits[row][None], places, 0, 1)
        assert said.predicted[row] == text[start:end]
    file = jaxdl.export(checkpoint, tmp_path / "out")
    again = transformers.AutoModelForQuestionAnswering.from_pretrained(file.parent).state_dict()
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(again[name].numpy(), tensor.numpy(), err_msg=name)
    assert jaxdl.convert(file.parent).checkpoint.card.task == TASK


@pytest.mark.slow
def test_commands_train_measure_and_answer_in_words(tmp_path):
    """From a BERT's folder to a table of answers; a page of the held-out ones."""
    folder = tmp_path / "bert"
    folder.mkdir()
    small = create("bert_tiny", 2, vocabulary=20, width=12, num_heads=3, depth=1, longest=40)
    variables = init_variables(small, jax.random.key(0), token_spec(4))
    save_file(dict(to_tensors(variables, KEYS.layouts["huggingface"](small))), folder / "model.safetensors")
    config = to_config(small, ())["config.json"] | {"architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    word_pieces(folder)
    files = [squad_file(tmp_path / f"{count}.json", count, seed=count) for count in (12, 3)]
    jaxdl_command(f"convert --from {folder} --out {tmp_path / 'begin'} --without-head")
    said = jaxdl_command(
        f"cross-validate --init {tmp_path / 'begin'} --data {files[0]} --epochs 1 --folds 2 --batch-size 8 "
        f"--group-by-length --length 24 --allow near-duplicates --out {tmp_path / 'run'}"
    )
    assert "exact_match" in said
    assert "6 articles: the questions about one stay together in every division" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Largest losses" in page
    jaxdl_command(f"finetune --init {tmp_path / 'begin'} --data {files[0]} --epochs 1 --out {tmp_path / 'made'}")
    jaxdl_command(
        f"pretrain --model lstm --tokenizer {folder} --length 30 --data {files[0]} --epochs 1 --out {tmp_path / 'lstm'}"
    )
    assert jaxdl.restore(tmp_path / "lstm").card.preprocessing.length == 30
    said = jaxdl_command(f"predict --checkpoint {tmp_path / 'made'} --data {files[1]} --out {tmp_path / 'p.csv'}")
    assert "exact_match" in said
    with open(tmp_path / "p.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["example"] for row in rows] == ["q0", "q1", "q2"]
    source = data.squad(files[1])
    for row, (_, text) in zip(rows, source.held, strict=True):
        assert row["answer"] == text[int(row["start"]) : int(row["end"])]
        assert row["label"] == "bad days"
    refused(f"finetune --init {tmp_path / 'begin'} --data {tmp_path / 'none.json'} --out {tmp_path / 'x'}")
