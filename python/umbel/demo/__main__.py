"""``python -m umbel.demo``."""

import sys

from .server import main

sys.exit(main())
