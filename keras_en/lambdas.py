"""`Lambda` layers, made again."""

import warnings


def again(layer, config):
    """A `Lambda` from its configuration, which may be changed, with the function of
    another: that is there, and has not to be made from text, which may be unsafe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = type(layer).from_config(config, safe_mode=False)
    new.function = layer.function
    return new
