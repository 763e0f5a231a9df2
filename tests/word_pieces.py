"""A small vocabulary of a BERT, and its tokenizer."""

from pathlib import Path

from jaxdl.data.preprocessing.tokenizer import read_tokenizer

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "day", "##s", "bad", "d", "##ias", "##io", ",")


def word_pieces(folder: Path) -> str:
    """The content of the tokenizer of `PIECES`, whose ``vocab.txt`` is written to `folder`."""
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return read_tokenizer(folder)
