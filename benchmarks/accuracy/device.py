"""Table 5's ResNet-20 on CIFAR-10 on one GPU: BN, SN, EN, several seeds side by side.

    KERAS_BACKEND=jax python benchmarks/accuracy/device.py FILE.npz --out FOLDER
    KERAS_BACKEND=jax python benchmarks/accuracy/device.py --table accuracy.json

Everything else is what the recipe says. The first form measures the ways to run the
seeds and takes the fastest of each arm. With `--search` it first tries a learning rate
with each network, on all training images but as many held-out ones as there are test
images, and takes the best of every arm. It trains for as many of `--epochs` as fit into
`--budget` seconds since its start, in all arms the same; it writes `accuracy.json`
whenever networks were tested, and the final weights. All arms go on together, an epoch
each, so that what is there is paired at any time. The second writes a page beside such
numbers; `benchmarks/results` has two.
"""

import argparse
import os
import sys
from pathlib import Path

# The folder above, of what all benchmarks share.
sys.path.append(str(Path(__file__).parents[1]))

import device_tables
from clock import say

EPOCHS = (165, 150, 135, 120, 105, 90, 75, 60, 50, 40, 30, 20, 15)
ARMS = ("bn", "sn", "en")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="CIFAR-10 as arrays or packed JPEG")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--table", type=Path, help="numbers to write the page of")
    parser.add_argument("--budget", type=float, default=420, metavar="SECONDS")
    parser.add_argument("--recipe", default="cifar10_resnet20")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument(
        "--ways", nargs="+", default=("dense",), choices=device_tables.WAYS
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--search", nargs="*", type=float, metavar="RATE")
    parser.add_argument("--search-epochs", type=int, default=8)
    parser.add_argument("--epochs", nargs="+", type=int, default=EPOCHS)
    parser.add_argument("--every", type=int, default=10, help="epochs between tests")
    parser.add_argument("--limit", type=int, help="the first so many images")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if not (options.file or options.table):
        parser.error("FILE.npz or --table accuracy.json is needed")
    path = options.table or Path(options.file)
    if not path.is_file():
        parser.error(f"a file is needed. Received: {path}")
    if options.search and len(options.search) != len(options.seeds):
        parser.error("--search: as many as seeds: they are trained by one program")
    return options


def main():
    options = parsed()
    if options.table:
        return device_tables.write(options.table)
    os.environ["KERAS_BACKEND"] = "jax"
    # Behind the backend: both import it.
    import keras

    if options.dtype != "float32":
        keras.config.set_dtype_policy(f"mixed_{options.dtype}")
    options.out.mkdir(parents=True, exist_ok=True)
    from device_training import Training

    training = Training(options)
    say("imported")
    for part in ("prepare", "choose", "prepare_tests", "search", "run"):
        getattr(training, part)()
        training.write()
    training.save()
    say("done")
    sys.stdout.flush()
    # A program that is still being compiled would be waited for.
    os._exit(0 if training.results["finished"] else 1)


if __name__ == "__main__":
    main()
