"""``python -m sa_history``: see :mod:`sa_history.cli`."""

from __future__ import annotations

import sys

from sa_history.cli import main

sys.exit(main())
