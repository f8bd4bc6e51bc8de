"""The quickstart's network, trained on one device, many, or many hosts."""

import importlib.util
from pathlib import Path

import keras
import numpy as np

from keras_en import training
from keras_en.cli.quickstart import check_folder
from keras_en.training import checkpoints
from keras_en.training.recipes.digits import (
    BATCH_SIZE,
    EPOCHS,
    compiled_model,
    write_history,
)
from keras_en.training.strategies import is_chief

FILES = ("history.csv", "model.keras", checkpoints.NAME)


def run(
    output,
    seed=0,
    epochs=EPOCHS,
    norm="en",
    batch_size=BATCH_SIZE,
    strategy="none",
    replicas=None,
    checkpoint_every=None,
    resume=False,
    verbose="auto",
):
    """Trains a residual network of 8 layers on handwritten digits.

    Every worker calls this; the chief writes `checkpoint.npz` after every epoch, and
    at the end `model.keras` and `history.csv`.

    Args:
        output: Folder of the run, which every worker can read.
        seed: Integer, the seed of weights, order, augmentation and split.
        epochs: Positive integer.
        norm: Name of the normalization, see `keras_en.models.norms`; "en" is
            synchronized over the replicas.
        batch_size: Images of a global batch.
        strategy, replicas: See `keras_en.training.strategy`.
        checkpoint_every, resume, verbose: See `keras_en.training.fit`.

    Returns:
        Dictionary: "chief", whether this is the process that wrote; "test_loss";
        "test_accuracy".

    Raises:
        FileExistsError: `output` holds a run and `resume` is `False`, or other files.
        RuntimeError: The backend is not TensorFlow, a package is missing, or a worker
            is gone.
        ValueError: See `keras_en.training.strategy` and `fit`.
    """
    output = Path(output)
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "keras-en train needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if importlib.util.find_spec("sklearn") is None:
        raise RuntimeError("keras-en train needs sklearn: pip install 'keras-en[all]'")
    # First: TensorFlow must not have touched a device yet.
    chosen = training.strategy(strategy, replicas)
    chief = is_chief(chosen)
    if chief:
        kept = (*FILES, checkpoints.PARTIAL)
        check_folder(output, kept, resume, "--resume goes on with it")
    keras.utils.set_random_seed(seed)
    data = training.digits(seed)
    with chosen.scope():
        model = compiled_model(
            data["train"], norm, epochs, batch_size, synchronized=True
        )

    def batches(epoch):
        # An epoch's own seed: a resumed run sees the batches of an interrupted one.
        drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]) // 2
        return training.batches(data["train"], batch_size, drawn, shift=1)

    history = training.fit(
        model,
        batches,
        epochs=epochs,
        verbose=verbose,
        validation_data=tuple(data["validation"]),
        checkpoint=output,
        checkpoint_every=checkpoint_every,
        resume=resume,
    ).history
    found = training.evaluate(model, *data["test"], batch_size=120, verbose=0)
    if chief:
        write_history(output / "history.csv", history)
        model.save(output / "model.keras")
    return {
        "chief": chief,
        "test_loss": found["loss"],
        "test_accuracy": found["accuracy"],
    }
