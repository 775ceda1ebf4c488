"""``python -m umbel``: the command line."""

import sys

from ._command_line.command import main

sys.exit(main())
