"""The shop, tracked with contexts that are stored in the events."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from sa_history import AfterDelete, Snapshot, track
from tests.moving.shop import NAMES, Shop, define


class Base(DeclarativeBase):
    pass


shop = Shop(*define(Base, {}))
for name in NAMES:
    track(Snapshot, AfterDelete, context="inline")(Base.metadata.tables[name])
