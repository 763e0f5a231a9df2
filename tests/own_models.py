"""Models as a user would write them: plain Flax modules, which know nothing of jaxdl, and a list of stages."""

import flax.linen as nn
import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import choose_preprocessing


class Net(nn.Module):
    """A convolution network with all that needs care."""

    width: int = 4
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(self.width, (3, 3), dtype=self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = nn.tanh(x)
        x = nn.Conv(6, (3, 3), strides=2, dtype=self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = nn.tanh(x).mean((1, 2))
        x = nn.tanh(nn.Dense(8, dtype=self.dtype)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(10, dtype=self.dtype)(x)


GROUPS = {"early": ("Conv_0", "BatchNorm_0"), "middle": ("Conv_1", "BatchNorm_1")}


def wrapped(groups=GROUPS, **fields):
    return jaxdl.wrap(Net(**fields), "Dense_1", groups)


class Body(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, mode):
        x = nn.Dense(self.width, name="dense")(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not mode.train, momentum=0.9, name="norm")(x)
        return nn.tanh(x)


class Top(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.Dense(self.outputs, name="dense")(x)


class MyNet(jaxdl.Staged):
    """Of stages."""

    widths: tuple[int, ...] = (8,)

    def stages(self):
        body = [(f"layer{i}", lambda name, w=w: Body(w, name=name)) for i, w in enumerate(self.widths)]
        return *body, ("head", lambda name: Top(self.num_outputs, name=name))


DIGITS = data.digits(range(3))
SOURCE = data.subset(DIGITS, np.arange(48))
SPEC = (8, 8, 1)


def preprocessing():
    made = choose_preprocessing(SOURCE, None, 32)
    return made.with_constants(made.fit(made.measure(made.load(SOURCE)), np.arange(48)))
