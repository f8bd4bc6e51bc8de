"""`python -m keras_en.cli`."""

import sys

from keras_en.cli.main import main

sys.exit(main())
