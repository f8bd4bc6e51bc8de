"""Programs that load an artefact as its servers do, without Keras.

They are run by path: as modules of this package they would import Keras first.
"""
