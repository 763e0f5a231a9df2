"""What the text of an adapter says, and texts that say nothing."""

import pytest

from jaxdl.errors import InputError
from jaxdl.training.adapter import Adapter


@pytest.mark.parametrize(
    ("text", "rank", "layers"),
    [
        ("lora:1", 1, ()),
        ("lora:16", 16, ()),
        ("lora:4:stage2", 4, ("stage2",)),
        ("lora:4:stage2,stage3/*/conv1", 4, ("stage2", "stage3/*/conv1")),
        (" lora : 4 : stage2, stage3 ", 4, ("stage2", "stage3")),
        ("lora:2:heads,body/head", 2, ("heads", "body/head")),  # neither is the stage head
    ],
)
def test_an_adapter_is_read(text, rank, layers):
    assert Adapter.parse(text) == Adapter(rank, layers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown kind"),
        ("lroa:4", "Did you mean 'lora'"),
        ("LoRA:4", "Did you mean 'lora'"),
        ("4", "unknown kind"),
        ("lora", "lora:RANK"),
        ("lora:4:stage1:stage2", "lora:RANK"),
        ("lora:", "rank ''"),
        ("lora:0", "rank is 0"),
        ("lora:-1", "rank '-1'"),
        ("lora:4.5", "rank '4.5'"),
        ("lora:1_0", "rank '1_0'"),
        ("lora:²", "rank '²'"),
        ("lora:stage2", "rank 'stage2'"),
        ("lora:4:", "no name"),
        ("lora:4:stage1,,stage2", "no name"),
        ("lora:4:stage1, ", "no name"),
        ("lora:4:head", "'head'.*always trained whole"),
        ("lora:4:stage1,head/Dense_0", "'head/Dense_0'.*always trained whole"),
    ],
)
def test_what_is_no_adapter_is_named(text, said):
    with pytest.raises(InputError, match=said) as refused:
        Adapter.parse(text)
    assert f"adapter '{text}'" in str(refused.value)
    assert "for example lora:8" in str(refused.value)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": 2, "layers": ("",)}, {"rank": 2, "layers": ("head",)}])
def test_one_that_is_made_is_checked_too(options):
    with pytest.raises(InputError):
        Adapter(**options)
