"""BERT elsewhere: `jaxdl.models.bert.Bert` and Hugging Face's files of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdl.models.bert import Bert
from jaxdl.weights.keys import LINEAR, Keys, Row, Table, scale_and_bias, with_bias

OURS = "block{i+1}"
# of sentence-transformers, beside the network's own configuration: how it pools, and which modules it has
POOLING, MODULES = "1_Pooling/config.json", "modules.json"
# what the network was made for, as its configuration names it, and the features that takes
TAKING = {
    "BertForSequenceClassification": "pooler",
    "BertForTokenClassification": "none",
    "BertForQuestionAnswering": "none",
}
# names of the tasks that these are asked, by transformers' problem_type, which it mostly leaves out
ASKED = {
    "BertForSequenceClassification": {
        "single_label_classification": "classification",
        "multi_label_classification": "multilabel",
        "regression": "regression",
    },
    "BertForTokenClassification": {"": "token-classification"},
    "BertForQuestionAnswering": {"": "question-answering"},
}
SENTENCES = {"mean": "pooling_mode_mean_tokens", "token": "pooling_mode_cls_token"}
OTHER_WAYS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")


def huggingface(model: Bert) -> Table:
    """Transformers' ``Bert…`` classes; without ``bert.`` in front where the network was saved alone."""
    theirs = "bert.encoder.layer.{i}"
    attention, norms = f"{theirs}.attention", {}
    norms["bert.embeddings.LayerNorm"] = "embed/norm"
    norms[f"{attention}.output.LayerNorm"] = f"{OURS}/norm1"
    norms[f"{theirs}.output.LayerNorm"] = f"{OURS}/norm2"
    pooler = (
        with_bias("bert.pooler.dense", "pool/dense", LINEAR)
        if model.pool == "pooler"
        else (Row("bert.pooler.*", None, why="the pooler, from which the features are not taken"),)
    )
    return (
        Row("bert.embeddings.word_embeddings.weight", "params/embed/tokens/embedding"),
        Row("bert.embeddings.position_embeddings.weight", "params/embed/positions/table"),
        Row("bert.embeddings.token_type_embeddings.weight", "params/embed/types/embedding"),
        *(row for name, ours in norms.items() for row in scale_and_bias(name, ours)),
        # the same in files that were converted from TensorFlow's
        *(
            Row(f"{name}.{old}", f"params/{ours}/{leaf}")
            for name, ours in norms.items()
            for old, leaf in (("gamma", "scale"), ("beta", "bias"))
        ),
        *with_bias(f"{attention}.self.query", f"{OURS}/attention/query", LINEAR),
        *with_bias(f"{attention}.self.key", f"{OURS}/attention/key", LINEAR),
        *with_bias(f"{attention}.self.value", f"{OURS}/attention/value", LINEAR),
        *with_bias(f"{attention}.output.dense", f"{OURS}/attention/out", LINEAR),
        *with_bias(f"{theirs}.intermediate.dense", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.output.dense", f"{OURS}/mlp2", LINEAR),
        *pooler,
        *with_bias("classifier", "head/dense", LINEAR),
        *with_bias("qa_outputs", "head/dense", LINEAR),
        Row("bert.embeddings.position_ids", None, why="the numbers of the positions, 0, 1, 2, …"),
        # its decoder is the table of word embeddings once more: nothing is lost
        Row("cls.*", None, why="the heads of its pretraining, which a new task replaces"),
    )


def of_config(config: Mapping[str, Any], pooling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The arguments of a `Bert`, all of them, that transformers' configuration describes; None for another network.

    Args:
      config: transformers'.
      pooling: sentence-transformers', or None.

    Raises:
      ValueError: for sentence-transformers that pool in another way.
    """
    exact = config.get("hidden_act", "gelu") == "gelu"
    absolute = config.get("position_embedding_type", "absolute") == "absolute"
    if not exact or not absolute or config.get("is_decoder") or config.get("add_cross_attention"):
        return None
    width, inside = config["hidden_size"], config.get("intermediate_size", 3072)
    arguments = {
        "vocabulary": config["vocab_size"],
        "width": width,
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_width": 0 if inside == 4 * width else inside,
        "longest": config.get("max_position_embeddings", 512),
        "types": config.get("type_vocab_size", 2),
        "epsilon": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
    }
    if pooling is not None:
        ways = [way for way, key in SENTENCES.items() if pooling.get(key)]
        if len(ways) != 1 or any(pooling.get(key) for key in OTHER_WAYS):
            raise ValueError(f"{POOLING} asks for {sorted(k for k, v in pooling.items() if v is True)}")
        return arguments | {"pool": ways[0]}
    taken = [TAKING[name] for name in config.get("architectures") or () if name in TAKING]
    return arguments | ({"pool": taken[0]} if taken else {})


def normalises(modules: Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether embeddings are brought to unit length, as sentence-transformers' list of modules says; None for no list.

    Raises:
      ValueError: for a module that is left out here, such as a linear map after the pooling.
    """
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules or ()]
    if foreign := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise ValueError(f"{MODULES} has the module {foreign[0]}")
    return "Normalize" in kinds


def has_head(config: Mapping[str, Any]) -> bool:
    """Whether the weights that the configuration describes have a head for a task."""
    return any(name in TAKING for name in config.get("architectures") or ())


def asked_by(config: Mapping[str, Any], outputs: int) -> str | None:
    """Name of the task that the configuration's head of so many outputs answers; None for none that is known."""
    kinds = next((ASKED[name] for name in config.get("architectures") or () if name in ASKED), {})
    problem = config.get("problem_type") or ("regression" if outputs == 1 else "")
    return kinds.get(problem, next(iter(kinds.values()), None))


def named_for(tensors: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """The tensors as transformers names them where the head answers the task of this name."""
    head = "qa_outputs." if asked in ASKED["BertForQuestionAnswering"].values() else "classifier."
    return {name.replace("classifier.", head): tensor for name, tensor in tensors.items()}


def to_config(
    model: Bert, class_names: tuple[str, ...], normalise: bool = False, asked: str = ""
) -> dict[str, str | dict[str, Any]]:
    """Transformers' configuration of `model` and, of one that pools in their way, sentence-transformers': by file.

    For `normalise` see `normalises`; `asked` is the name of the task.
    """
    unnamed = [f"LABEL_{i}" for i in range(len(class_names), model.num_outputs)]
    usual = {"pooler": "BertForSequenceClassification", "none": "BertForTokenClassification"}
    fitting = (name for name, kinds in ASKED.items() if asked in kinds.values() and TAKING[name] == model.pool)
    config = {
        "architectures": [next(fitting, usual.get(model.pool, "BertModel"))],
        "model_type": "bert",
        "vocab_size": model.vocabulary,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.mlp_width or 4 * model.width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": model.longest,
        "type_vocab_size": model.types,
        "layer_norm_eps": model.epsilon,
        "id2label": dict(enumerate((*class_names, *unnamed))),
        "label2id": {name: place for place, name in enumerate((*class_names, *unnamed))},
    }
    problems = {task: problem for kinds in ASKED.values() for problem, task in kinds.items()}
    config |= {"problem_type": problems[asked]} if problems.get(asked) else {}
    files: dict[str, Any] = {"config.json": config}
    if model.pool in SENTENCES:
        ways = dict.fromkeys((*SENTENCES.values(), *OTHER_WAYS), False) | {SENTENCES[model.pool]: True}
        files[POOLING] = {"word_embedding_dimension": model.width, **ways}
        kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), *((("2_Normalize", "Normalize"),) if normalise else ()))
        files[MODULES] = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
    return files


KEYS = Keys(layouts={"huggingface": huggingface}, stem="params/embed/tokens/embedding")
