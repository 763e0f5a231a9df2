"""Which words counted: the scores of tokens, and how a page shows them."""

import jax
import numpy as np
import pytest
from parsed_page import read_page
from word_pieces import word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.sequence import token_spec
from jaxdl.report.explain import attention_to_tokens, gradient_times_input, reads_tokens, rolls_out
from jaxdl.report.run_page import write_run_report
from jaxdl.report.words import marked, of_words, strongest
from jaxdl.training.execution import Execution
from jaxdl.weights.checkpoint import save

LENGTH = 12
BERT = {"width": 12, "depth": 1, "num_heads": 3, "longest": LENGTH}


def drawn(name, **arguments):
    model = create(name, 2, vocabulary=14, **arguments)
    variables = init_variables(model, jax.random.key(1), token_spec(LENGTH))
    mask = np.arange(LENGTH) < np.array([[5], [LENGTH], [1]])
    tokens = np.random.default_rng(0).integers(0, 14, (3, LENGTH), dtype=np.int32)
    return model, variables, {"tokens": tokens, "mask": mask}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bert_tiny", BERT),
        pytest.param("lstm", {"width": 6, "features": 5}, marks=pytest.mark.slow),
        ("textcnn", {"width": 6, "features": 4}),
    ],
)
def test_a_token_scores_what_a_longer_vector_of_it_would_do_to_the_logit(name, arguments):
    model, variables, x = drawn(name, **arguments)
    classes = np.array([0, 1, 1])
    found = np.asarray(gradient_times_input(model, variables, x, classes))
    after = model.stage_names[1]
    flow = model.apply(variables, x, stop=after)

    def logit(place, factor):
        stretched = flow["hidden"].at[:, place].multiply(factor)
        logits = model.apply(variables, {**flow, "hidden": stretched}, start=after)
        return np.asarray(logits)[np.arange(3), classes]

    step = 1e-3
    expected = np.stack([(logit(t, 1 + step) - logit(t, 1 - step)) / (2 * step) for t in range(LENGTH)], 1)
    np.testing.assert_allclose(found, np.where(x["mask"], expected, 0), atol=2e-3)
    assert np.abs(found[1]).max() > 0.01
    assert not found[~x["mask"]].any()


@pytest.mark.parametrize(("name", "pool"), [("bert_tiny", "mean"), ("bert_tiny", "token"), ("transformer", "last")])
def test_attention_reaches_the_features_as_roll_out_says(name, pool):
    model, variables, x = drawn(name, pool=pool, **BERT)
    found = np.asarray(attention_to_tokens(model, variables, x))
    _, taps = model.apply(variables, x, taps=("block1/attention",))
    weights = 0.5 * np.asarray(taps["block1/attention"]).mean(1) + 0.5 * np.eye(LENGTH)
    for row, mask in enumerate(x["mask"]):
        read = weights[row, mask].mean(0) if pool == "mean" else weights[row, mask.sum() - 1 if pool == "last" else 0]
        np.testing.assert_allclose(found[row], np.where(mask, read, 0), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_only_models_of_tokens_have_scores():
    assert not reads_tokens(create("mlp", 2))
    assert reads_tokens(create("lstm", 2))
    assert rolls_out(create("bert_tiny", 2))
    assert not rolls_out(create("lstm", 2))


@pytest.fixture
def content(tmp_path):
    return word_pieces(tmp_path)


def test_words_are_where_the_text_has_them(content):
    preprocessing = TextPreprocessing(content, LENGTH)
    text = "Good,  adios days"  # good , a ##d? as pieces
    words = preprocessing.words(text)
    assert [text[word.start : word.end] for word in words] == ["Good", ",", "adios", "days"]
    tokens = preprocessing.load(data.texts([text]))["tokens"][0]
    places = [place for word in words for place in word.tokens]
    assert places == list(range(1, 1 + len(places)))  # between the marks of beginning and end
    assert tokens[places[-1] + 1 :].nonzero()[0].tolist() == [0]
    pair = preprocessing.words(("good day", "bad"))
    assert [(word.which, word.start) for word in pair] == [(0, 0), (0, 5), (1, 0)]


def test_a_text_is_marked_word_by_word(content):
    preprocessing = TextPreprocessing(content, 5)
    text = "good <b>days, bad"
    words = preprocessing.words(text)
    scores = np.array([9.0, 0.5, 0.0, -1.0, 9.0])  # of the marks, good, and what the network makes of "<" and "b"
    assert of_words(words, scores).tolist() == [0.5, 0.0, -1.0]
    page = marked(text, words, scores)
    assert '<mark style="background:rgb(0 114 178 / 0.30)">good</mark>' in page
    assert '<mark class="against" style="background:rgb(213 94 0 / 0.60)">b</mark>' in page
    assert "<b>" not in page
    assert "<s>&gt;days, bad</s>" in page  # what the network did not read
    assert strongest(text, words, scores) == "most by “b” (against), “good”"
    assert "\u202e" not in marked("\u202egood", preprocessing.words("\u202egood"), np.ones(5))


@pytest.fixture
def run(content, tmp_path):
    """A cross-validation of few texts, as the command leaves it, and its source."""
    held = [f"{'good' if i % 2 else 'bad'} {'day ' * (1 + i // 2)}" for i in range(24)]
    held[1] = "good \x07\u202eday <script>"
    source = data.texts(held, ["bad", "good"] * 12)
    model = create("bert_tiny", 2, vocabulary=14, **BERT)
    checkpoint = jaxdl.from_model(model, TextPreprocessing(content, LENGTH), ["bad", "good"])
    execution = Execution(keep_models=True, allow=("near-duplicates",))
    with pytest.warns(UserWarning, match="cut"):
        result = jaxdl.cross_validate(
            checkpoint, source, jaxdl.Plan(epochs=2, batch_size=8), folds=2, execution=execution
        )
    folder = tmp_path / "run"
    folder.mkdir()
    result.write_to(folder)
    for fold, network in enumerate(result.models):
        save(network, folder / "folds" / str(fold))
    return folder, source


def test_the_page_shows_texts_and_their_words(run, tmp_path):
    folder, source = run
    with pytest.warns(UserWarning, match="cut"):
        written = write_run_report(folder, source, tmp_path / "page.html")
    page = read_page(written)
    found = {one["id"]: one["text"] for one in page.all("section")}
    assert "Gradient × input" in found["which-words-counted"]
    assert "Attention roll-out" in found["which-words-counted"]
    captions = [caption["text"] for caption in page.all("figcaption")]
    lines = [paragraph for paragraph in page.all("p") if paragraph.get("dir") == "auto"]
    # a line for the predicted class, one for attention, and of those that are wrong one for the true class
    assert len(lines) == sum(2 if "which is right" in caption else 3 for caption in captions)
    texts = [text.replace("\x07", "\ufffd").replace("\u202e", "\ufffd") for text in source.texts]
    assert {line["text"] for line in lines} <= set(texts)
    listed = [span["text"] for span in page.all("span") if span.get("class") == "text"]
    assert listed
    assert set(listed) <= set(texts)
    assert not {"\x07", "\u202e"} & set(written.read_text())
