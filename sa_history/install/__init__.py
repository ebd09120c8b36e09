"""Installation: what the database has, beside what the models expect, and mending it.

All of it looks at what is marked as sa_history's own and at nothing else. What reads
command lines, revisions or requests stays outside: it calls these functions.
"""

from __future__ import annotations

from sa_history.install.api import (
    check,
    harden,
    install,
    partitions,
    size,
    status,
    uninstall,
)
from sa_history.install.drift import Problem
from sa_history.install.findings import Finding, State
from sa_history.install.partition_steps import PartitionReport
from sa_history.install.sizes import EventTableSize, RelationSize

__all__ = [
    "EventTableSize",
    "Finding",
    "PartitionReport",
    "Problem",
    "RelationSize",
    "State",
    "check",
    "harden",
    "install",
    "partitions",
    "size",
    "status",
    "uninstall",
]
