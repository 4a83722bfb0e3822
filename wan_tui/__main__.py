"""`python -m wan_tui`."""

import sys

from wan_tui.cli import main

sys.exit(main())
