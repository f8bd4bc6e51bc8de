"""`python -m keras_en`, the same as `keras-en`."""

import sys

from keras_en.cli.main import main

sys.exit(main())
