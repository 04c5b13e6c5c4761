"""`python -P -m changeover.worker SOURCE`: one worker, started by the supervisor."""

from __future__ import annotations

import sys

from .start import main

sys.exit(main(sys.argv[1:]))
