from keras_en.training.data import batches, digits
from keras_en.training.loop import evaluate, fit
from keras_en.training.strategies import strategy

__all__ = ["batches", "digits", "evaluate", "fit", "strategy"]
