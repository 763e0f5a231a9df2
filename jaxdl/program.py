"""Where the program ``jaxdl`` begins: also where JAX, which `jaxdl.cli` needs, cannot be imported."""

import gc
import sys


def main() -> None:
    """See `jaxdl.cli.main`. Without JAX `jaxdl doctor` still says what is wrong, and all else refers to it."""
    gc.disable()  # next to nothing that modules make is garbage; to look for it took a third of a start
    try:
        from jaxdl.cli import main as run
    except (ImportError, RuntimeError) as error:  # JAX raises the latter where jaxlib does not fit, or the CPU
        _without_jax(error)
    finally:
        gc.freeze()  # nor is it looked for there later
        gc.enable()
    run()


def _without_jax(error: Exception) -> None:
    from jaxdl.parallel.doctor.findings import findings
    from jaxdl.parallel.doctor.gather import gather
    from jaxdl.parallel.doctor.table import lines

    if sys.argv[1:2] != ["doctor"]:
        said = str(error).partition("\n")[0]
        print(f"jaxdl: error: it cannot start ({said}); to see what is wrong, run: jaxdl doctor", file=sys.stderr)
        sys.exit(2)
    facts = gather(speed=False)
    print("\n".join(lines(facts, findings(facts))))
    sys.exit(1)
