"""What the tests against PyTorch's networks share."""

import jax
import numpy as np
from libraries import library

from jaxdl.models import create
from jaxdl.weights.keys import fill, rename, to_tensors


def images(side, batch=2, channels=3, seed=0):
    """Normalised images ``float32[batch, side, side, channels]`` that differ in more than their noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(batch, 7, 7, channels)).repeat(-(-side // 7), 1).repeat(-(-side // 7), 2)
    return (coarse[:, :side, :side] + 0.5 * rng.normal(size=(batch, side, side, channels))).astype(np.float32)


def to_torch(x):
    """``[batch, height, width, channels]`` as PyTorch has it."""
    return library("torch").tensor(x.transpose(0, 3, 1, 2).copy())


def calibrated(network, side, seed=0):
    """A fresh network whose answers differ between images, in eval mode.

    Batch norm's statistics come from a pass in train mode, kernels are scaled up where nothing normalises, and what
    starts at zero or one (biases, scales) is drawn, so that none of it can be forgotten unseen.
    """
    torch = library("torch")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
        norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all passes
        if norms:
            network.train()
            network(to_torch(images(side, 4, seed=seed + 1)))
            for norm in norms:
                norm.momentum = 0.1
    return network.eval()


def tensors_of(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def inner(network, x, modules):
    """Logits of a PyTorch network and what flows out of `modules` (dotted names), as numpy arrays."""
    torch = library("torch")
    found, hooks = {}, []
    for name in modules:
        keep = lambda _module, _inputs, out, name=name: found.__setitem__(name, out.detach().numpy())  # noqa: E731
        hooks.append(network.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        logits = network(to_torch(x)).numpy()
    for hook in hooks:
        hook.remove()
    return logits, found


def spread(values):
    """Standard deviation between images, over all of an activation: the root of the mean variance."""
    return float(np.sqrt(np.asarray(values, np.float64).var(axis=0).mean()))


def assert_close(ours, theirs, what, share=1e-3):
    """The largest difference is at most `share` of the spread between images, and images do differ."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{what}: {ours.shape} and {theirs.shape}"
    assert spread(theirs) > 0.02 * theirs.std(), f"{what}: images hardly differ ({spread(theirs)} of {theirs.std()})"
    off = np.abs(ours - theirs).max() / spread(theirs)
    assert off <= share, f"{what}: off by {off:.2g} of the spread between images"
    return off


def assert_parity(name, network, keys, layout, *, side, stages, arguments=None, channels_last=()):
    """The model `name` with the PyTorch network's weights answers as it does, at inner stages too.

    Args:
      name: of the model here.
      network: calibrated, in eval mode.
      keys: the family's `Keys`.
      layout: which of its key tables.
      side: of the images.
      stages: ``{stage here: dotted module there}``, compared too.
      arguments: of the model.
      channels_last: the modules of `stages` that are ``[batch, …, channels]`` there, too.

    Returns:
      model, variables and the differences by name, each as a share of the spread between images.
    """
    x = images(side)
    logits, found = inner(network, x, stages.values())
    model = create(name, logits.shape[-1], **(arguments or {}))
    table = keys.layouts[layout](model)
    tensors = tensors_of(network)
    variables = fill(rename(tensors, table), model, x.shape[1:])
    ours, taps = jax.jit(lambda v, x: model.apply(v, x, taps=tuple(stages)))(variables, x)
    off = {"logits": assert_close(ours, logits, f"{name} logits")}
    for stage, module in stages.items():
        theirs = found[module]
        if theirs.ndim == 4 and module not in channels_last:
            theirs = theirs.transpose(0, 2, 3, 1)
        off[stage] = assert_close(taps[stage], theirs, f"{name} {stage}")
    back = dict(to_tensors(variables, table))
    for tensor, value in back.items():
        np.testing.assert_array_equal(value, tensors[tensor], err_msg=tensor)
    network.load_state_dict({k: library("torch").tensor(v) for k, v in back.items()})  # strict: all names are there
    return model, variables, off
