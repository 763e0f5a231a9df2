"""`eight/` needs 8 devices; test_eight_devices.py runs it in a process that has them."""

import jax

collect_ignore = [] if jax.device_count() >= 8 else ["eight"]
