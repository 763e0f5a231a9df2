"""A perceptron with one hidden layer, trained for all penalties side by side."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.models import create
from jaxdl.validation.probes.standard import Standard

HIDDEN = 128
EPOCHS, BATCH, LEARNING_RATE = 60, 128, 3e-3
NOTE = f"{HIDDEN} hidden units, Adam at {LEARNING_RATE} falling to 0 over {EPOCHS} epochs in batches of {BATCH}"


def fit_mlp(standard: Standard, labels: np.ndarray, classes: int, penalties: np.ndarray, key: jax.Array) -> np.ndarray:
    """Trains on the training part and predicts the test part.

    The loss is ``mean(loss) + penalty / (2 examples) × |weights|²``; all penalties start from the same weights and see
    the same batches. Of numbers it is the squared error in units of their spread.

    Args:
      standard: training and test rows.
      labels: class or number of each training row; of padding any.
      classes: how many there are; 0 for numbers.
      penalties: in any order.
      key: of weights and batches.

    Returns:
      Logits or numbers ``[penalties, test, outputs]``.
    """
    real = np.asarray(standard.weight) > 0
    if classes:
        mean, spread, targets = 0.0, 1.0, jnp.asarray(labels, jnp.int32)
    else:
        mean, spread = labels[real].mean(), labels[real].std() or 1.0
        targets = jnp.asarray((labels - mean) / spread, jnp.float32)
    train_key, init_key = jax.random.split(key)
    # padding stands at the end: batches are drawn of the examples before it
    outputs = _train(
        standard.train,
        targets,
        standard.test,
        jnp.asarray(penalties, jnp.float32),
        train_key,
        init_key,
        classes=classes,
        count=int(real.sum()),
    )
    return np.asarray(outputs) * spread + mean


@partial(jax.jit, static_argnames=("classes", "count"))
def _train(
    x: jax.Array,
    targets: jax.Array,
    test: jax.Array,
    penalties: jax.Array,
    train_key: jax.Array,
    init_key: jax.Array,
    *,
    classes: int,
    count: int,
) -> jax.Array:
    model = create("mlp", max(1, classes), hidden=(HIDDEN,))
    steps = -(-count // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, EPOCHS * steps))

    def loss_of(params: dict, rows: jax.Array, penalty: jax.Array) -> jax.Array:
        made = model.apply({"params": params}, x[rows])
        if classes:
            loss = optax.softmax_cross_entropy_with_integer_labels(made, targets[rows]).mean()
        else:
            loss = jnp.square(made[:, 0] - targets[rows]).mean()
        kernels = [jnp.square(leaf).sum() for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        return loss + penalty / (2 * count) * sum(kernels)

    def one(penalty: jax.Array) -> jax.Array:
        params = model.init(init_key, x[:1])["params"]

        def step(held: tuple, rows: jax.Array) -> tuple:
            params, state = held
            slope = jax.grad(loss_of)(params, rows, penalty)
            change, state = optimizer.update(slope, state)
            return (optax.apply_updates(params, change), state), None

        def epoch(held: tuple, number: jax.Array) -> tuple:
            order = jax.random.permutation(jax.random.fold_in(train_key, number), count)
            rows = jnp.resize(order, steps * BATCH).reshape(steps, BATCH)  # the last batch is filled from the first
            return jax.lax.scan(step, held, rows)

        (params, _), _ = jax.lax.scan(epoch, (params, optimizer.init(params)), jnp.arange(EPOCHS))
        return model.apply({"params": params}, test)

    return jax.vmap(one)(penalties)
