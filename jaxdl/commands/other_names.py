"""What other tools call an option, and what it is called here."""

import re
from collections.abc import Callable, Mapping, Sequence

from jaxdl.commands.help import options_of
from jaxdl.errors import InputError, nearest

OPTION = re.compile("--?[a-zA-Z][^=]*")  # which a number below zero is not

# our option, with a value where one is meant: what others call it
CALLED: Mapping[str, str] = {
    "--learning-rate": "lr learn-rate base-lr init-lr max-lr lr0 learningrate",
    "--weight-decay": "wd l2 decay",
    "--batch-size": "batch bs batchsize train-batch-size per-device-train-batch-size b",
    "--optimizer": "opt optim optimiser",
    "--epochs": "epoch num-epochs n-epochs max-epochs nepochs num-train-epochs",
    "--metric": "metrics scoring score eval-metric",
    "--folds": "fold num-folds n-folds k cv n-splits num-splits k-folds kfold kfolds k-fold",
    "--init": "pretrained weights checkpoint ckpt load load-from model-path from-checkpoint finetune-from init-from",
    "--checkpoint": "init model weights ckpt run model-path",
    "--from": "checkpoint init source file pretrained",
    "--validation-fraction": "val-split validation-split val-size val-fraction val-ratio validation-size holdout",
    "--test-fraction": "test-size test-split test-ratio val-split validation-split val-fraction validation-fraction",
    "--num-outputs": "num-classes nb-classes n-classes classes",
    "--freeze-through body": "freeze freeze-backbone freeze-body freeze-encoder linear-probe frozen freeze-layers",
    "--adapter lora:8": "lora lora-rank lora-r peft",
    "--early-stopping": "patience early-stop early-stopping-patience",
    "--model-arguments dropout=0.1": "dropout drop drop-rate",
    "--model": "arch architecture backbone net network model-name",
    "--model-arguments": "model-args model-kwargs",
    "--out": "output out-dir output-dir save-dir save-path logdir log-dir save o output-path outdir",
    "--data": "data-dir dataset data-path train-dir root input images folder csv path d source dataset-dir",
    "--image-size": "img-size input-size imgsz size resolution image-resolution",
    "--text-column": "text text-col text-key text-field sentence-column sentence",
    "--tokenizer": "tokenizer-name tokenizer-file tokenizer-path vocab vocab-file",
    "--length": "max-length max-len max-seq-length max-seq-len seq-len sequence-length",
    "--workers": "num-workers n-workers dataloader-num-workers j",
    "--seed": "random-state random-seed manual-seed",
    "--precision bfloat16": "amp fp16 bf16 half mixed-precision dtype",
    "--clip-norm": "clip-grad grad-clip gradient-clip-val max-grad-norm clip clip-grad-norm",
    "--accumulate": "grad-accum grad-accum-steps gradient-accumulation-steps accumulate-grad-batches",
    "--schedule": "scheduler sched lr-scheduler lr-schedule lr-scheduler-type",
    "--warmup-epochs": "warmup warmup-steps warmup-ratio",
    "--label-smoothing": "smoothing",
    "--augment": "mixup cutmix aa auto-augment augmentation augmentations hflip flip randaugment augs transforms",
    "--ema": "model-ema ema-decay model-ema-decay",
    "--class-weights balanced": "class-weight balanced weighted-loss",
    "--weight": "sample-weight sample-weights weight-column example-weights",
    "--loss-function": "loss criterion",
    "--splitter": "stratify stratified split cv-strategy shuffle-split",
    "--splitter group": "groups group-by group-column",
    "--restart": "overwrite force exist-ok clean",
    "--trials": "n-trials n-iter num-samples num-trials",
    "--top": "top-k topk",
    "--stage-lr": "layer-lr layer-decay lr-mult llrd lr-mult-body discriminative-lr",
    "--tensorboard": "log-tensorboard tb",
    "--wandb": "wandb-project log-wandb use-wandb",
    "--fold-strategy": "n-jobs jobs",
}
# what has no option here: what to do instead
INSTEAD: Mapping[str, str] = {
    "the same command with the same --out goes on where it stopped": "resume resume-from continue resume-training",
    "the number of classes is read from the examples, leave it out": "num-classes nb-classes n-classes",
    "JAX uses all devices that it sees; the variables JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES=0 choose": (
        "gpu gpus device devices cuda cpu tpu accelerator use-cuda no-cuda ngpu"
    ),
    "name the column after the file, as in --data table.csv:TARGET": (
        "target target-column label label-column y labels label-col"
    ),
    "a terminal shows the progress, a file does not get it; --debug shows the traceback of an error": (
        "verbose verbosity quiet progress log-level v"
    ),
}


def check_names(name: str, commands: Mapping[str, Callable[..., None]], arguments: Sequence[str]) -> None:
    """Checks that a command line has the options that the command needs, and no others.

    Args:
      name: of the command.
      commands: all commands, by name.
      arguments: what follows its name.

    Raises:
      InputError: for an option that it has not: says what it is called here, or which is nearest. If one is missing.
    """
    command, elsewhere = commands[name], {other: commands[other] for other in commands if other != name}
    known, given = options_of(command), [found[0] for one in arguments if (found := OPTION.match(one))]
    for option in given:
        if option.replace("_", "-") not in known:
            meant = option.strip("-").replace("_", "-").lower()
            raise InputError(f"jaxdl {name} has no option {option}; {_instead(meant, known, elsewhere)}")
    there = {option.replace("_", "-") for option in given}
    if missing := [option for option, held in known.items() if held.required and option not in there]:
        raise InputError(f"jaxdl {name} needs {' and '.join(missing)}; see jaxdl {name} --help")


def _instead(given: str, known: Mapping[str, object], elsewhere: Mapping[str, Callable[..., None]]) -> str:
    called = [option for option, names in CALLED.items() if given in names.split() and option.split()[0] in known]
    if called:
        return f"it is called {' or '.join(called)} here"
    if said := [advice for advice, names in INSTEAD.items() if given in names.split()]:
        return said[0]
    if having := [command for command, function in elsewhere.items() if f"--{given}" in options_of(function)]:
        return f"it is an option of jaxdl {', '.join(having)}"
    return f"see --help-all.{nearest(f'--{given}', known)}"
