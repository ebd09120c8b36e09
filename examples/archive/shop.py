"""The models of examples/flask_app, whose events are partitioned by month."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "flask_app"))
os.environ["KIOSK_PARTITION_BY"] = "month"

from kiosk.extensions import Base
from kiosk.models import Item, Order, Product, User

__all__ = ["Base", "Item", "Order", "Product", "User"]
