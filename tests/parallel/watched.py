"""One of several processes that compute together on loopback: ``watched.py INDEX COUNT PORT LIMIT [hang]``."""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.parallel import hosts, watchdog

index, count, port, limit = (int(one) for one in sys.argv[1:5])
jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
watchdog.watch(limit)
mesh = Mesh(np.array(jax.devices()), ("data",))
spread = NamedSharding(mesh, PartitionSpec("data"))
step = jax.jit(lambda x: (x + x.sum()) / (1 + x.size))
x = jax.make_array_from_callback((len(jax.devices()),), spread, lambda part: np.arange(100.0, dtype=np.float32)[part])
try:
    for number in range(100_000):
        if number == 20 and sys.argv[5:] == ["hang"]:
            time.sleep(1e6)  # as a read from a file server that does not answer
        hosts.beat(f"step {number}")
        x = jax.block_until_ready(step(x))
        hosts.beat(f"reading for step {number + 1}")
        if number == 10:
            print("running", flush=True)
        if number == 20 and sys.argv[5:] == ["fail"]:
            raise ValueError("no luck")
        time.sleep(0.02)
except Exception as error:  # as the command line does
    watchdog.wait_for_blame(error)
    watchdog.stop_watching(error)
    os._exit(1)
