"""History tracking for SQLAlchemy models on PostgreSQL."""
from sa_history.track import *
from sa_history.track import track, HistoryMixin, create_event, events
from sa_history.trackers import *
from sa_history.conditions import *
from sa_history.conditions import new, old
