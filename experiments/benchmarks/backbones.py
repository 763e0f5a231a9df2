"""Images a second of published backbones, forward and in training, beside PyTorch's, in one process.

    pip install '.[torch]' && pip install --no-deps torchvision timm
    python experiments/benchmarks/backbones.py [--models resnet50 vgg16 …] [--batch 8] [--repeats 7]

Both sides have random weights and the same random images of the published size, and take the same work: the forward
pass in eval mode, and a step of SGD with momentum on the mean cross-entropy in train mode. On the CPU both compute in
float32, PyTorch eagerly and with channels last or first, whichever is faster there. On a GPU both compute in bfloat16
with float32 parameters, PyTorch under torch.compile. The sides are timed in turn; printed are the medians, their ratio
(more than 1: jaxdl is faster), and on a GPU the share of its peak that the arithmetic of the model makes up (model FLOP
utilisation: products and sums of the forward pass, three times that for a step).
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from beside_torch import machine, medians

if find_spec("torchvision_cpu"):  # a shim for PyTorch's CPU build
    import torchvision_cpu  # noqa: F401
import torchvision

from jaxdl.models import MODELS, create
from jaxdl.models.initialise import init_variables
from jaxdl.parallel.compiler import compiler_options

TIMM = {"vit_s_16": "vit_small_patch16_224"}  # what torchvision has not
NAMES = ("resnet50", "vgg16", "inception_v3", "mobilenet_v2", "vit_s_16")
OUTPUTS = 1000


def ours(name: str, x: np.ndarray, labels: np.ndarray, precision: str) -> tuple[Callable, Callable, float]:
    """Functions that run the forward pass and a step to their end, and the FLOP of a forward pass."""
    model = create(name, OUTPUTS, dtype=precision)
    variables = jax.jit(lambda key: init_variables(model, key, x.shape[1:]))(jax.random.key(0))
    params, statistics_ = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.sgd(1e-3, momentum=0.9)
    x, labels = jnp.asarray(x), jnp.asarray(labels)

    def loss_of(params, statistics_, key):
        logits, changed = model.apply(
            {"params": params, **statistics_}, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()
        return loss, changed

    def step(params, statistics_, state, key):
        (loss, changed), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, statistics_, key)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), {**statistics_, **changed}, state, loss

    forward = jax.jit(lambda variables, x: model.apply(variables, x), compiler_options=compiler_options())
    step = jax.jit(step, donate_argnums=(0, 1, 2), compiler_options=compiler_options())
    flops = (forward.lower(variables, x).cost_analysis() or {}).get("flops", 0.0)
    kept = jax.tree.map(jnp.copy, variables)
    now = [params, statistics_, optimizer.init(params), jax.random.key(0)]

    def take_step() -> None:
        *now[:3], loss = step(*now)
        loss.block_until_ready()

    return lambda: forward(kept, x).block_until_ready(), take_step, flops


def theirs(name: str, x: np.ndarray, labels: np.ndarray, device: str, channels_last: bool) -> tuple[Callable, Callable]:
    """As `ours`, by PyTorch."""
    if name in TIMM:
        import timm

        network = timm.create_model(TIMM[name])
    else:
        options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
        network = getattr(torchvision.models, name)(**options)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy()).to(device, memory_format=layout)
    labels = torch.tensor(labels).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
    on_gpu = device == "cuda"
    run = torch.compile(network) if on_gpu else network

    def precision():
        return torch.autocast("cuda", torch.bfloat16, enabled=on_gpu)

    def finish() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def forward() -> None:
        network.eval()
        with torch.no_grad(), precision():
            run(images)
        finish()

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        with precision():
            loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        finish()

    return forward, step


def measure(name: str, batch: int, repeats: int, device: str) -> list[tuple[str, float, float, float]]:
    """Rows of what was run, our and their images a second, and FLOP a second of ours."""
    side = MODELS[name].image_size
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, side, side, 3)).astype(np.float32)
    labels = rng.integers(OUTPUTS, size=batch)
    *mine, flops = ours(name, x, labels, "float32" if device == "cpu" else "bfloat16")
    others = [
        theirs(name, x, labels, device, channels_last) for channels_last in (True, False)[: 2 if device == "cpu" else 1]
    ]
    rows = []
    for place, what in enumerate(("forward", "step")):
        runs = [mine[place], *(other[place] for other in others)]
        our_time, *their_times = medians(runs, repeats)
        work = flops * (3 if what == "step" else 1)
        rows.append((what, batch / our_time, batch / min(their_times), work / our_time))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=NAMES, choices=MODELS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; by default as many as it has cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device, kind, peak = machine()
    print(f"{kind}, jax {jax.__version__}, torch {torch.__version__}, batch {options.batch}, images a second")
    print(f"{'model':14}{'':10}{'jaxdl':>9}{'torch':>9}{'ratio':>8}{'MFU':>8}")
    for name in options.models:
        for what, mine, other, rate in measure(name, options.batch, options.repeats, device):
            used = f"{rate / peak:8.0%}" if peak else f"{'–':>8}"
            print(f"{name:14}{what:10}{mine:9.4g}{other:9.4g}{mine / other:8.2f}{used}", flush=True)


if __name__ == "__main__":
    main()
