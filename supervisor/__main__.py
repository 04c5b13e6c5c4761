"""`python -m changeover.supervisor` is the `changeover` command, whatever is on PATH."""

from __future__ import annotations

import sys

from .cli.main import main

sys.exit(main())
