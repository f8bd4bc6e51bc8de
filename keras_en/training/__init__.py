# Crossentropy, optimizers and schedules: for files of trainings, which hold them.
from keras_en.training import crossentropy, optimizers, schedules  # noqa: F401
from keras_en.training.data import batches, digits
from keras_en.training.loop import evaluate, fit
from keras_en.training.radius import RadiusSchedule
from keras_en.training.recalibration import recalibrate
from keras_en.training.strategies import strategy

__all__ = [
    "RadiusSchedule",
    "batches",
    "digits",
    "evaluate",
    "fit",
    "recalibrate",
    "strategy",
]
