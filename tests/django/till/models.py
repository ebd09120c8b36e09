"""Django's view of the tables: nothing here makes one, or a trigger."""

from __future__ import annotations

import pghistory
from django.contrib.postgres.fields import ArrayField
from django.db import models
from pghistory.models import Event


class Owner(models.Model):
    """Somebody who has accounts."""

    name = models.TextField()

    class Meta:
        db_table = "owner"
        managed = False


class Account(models.Model):
    """An account."""

    owner = models.ForeignKey(Owner, models.DO_NOTHING)
    balance = models.IntegerField(null=True)

    class Meta:
        db_table = "account"
        managed = False


# Without a tracker django-pghistory would make triggers of its own; that of an event
# which is made by hand makes none.
AccountEvent = pghistory.create_event_model(
    Account,
    pghistory.ManualEvent("by hand"),
    attrs={"pgh_op": models.CharField(max_length=1, default="M")},
    abstract=False,
    meta={"db_table": "account_event"},
)


class OwnerEvent(Event):
    """The events of an owner, written out; they have their contexts in them."""

    pgh_tracked_model = Owner
    pgh_op = models.CharField(max_length=1)
    pgh_xact_id = models.BigIntegerField()
    pgh_obj = models.ForeignKey(
        Owner, models.DO_NOTHING, db_constraint=False, related_name="events"
    )
    pgh_context = models.JSONField(null=True)
    pgh_context_id = models.UUIDField(null=True)
    id = models.IntegerField()
    name = models.TextField()

    class Meta:
        db_table = "owner_event"
        managed = False


class Guest(models.Model):
    """Somebody who can be forgotten."""

    name = models.TextField(null=True)
    visits = models.IntegerField()

    class Meta:
        db_table = "guest"
        managed = False


class GuestEvent(Event):
    """The events of a guest, with what was erased of them."""

    pgh_tracked_model = Guest
    pgh_obj = models.ForeignKey(
        Guest, models.DO_NOTHING, db_constraint=False, related_name="events"
    )
    pgh_context = models.ForeignKey(
        "pghistory.Context", models.DO_NOTHING, null=True, db_constraint=False
    )
    pgh_erased = ArrayField(models.TextField(), null=True)
    id = models.IntegerField()
    name = models.TextField(null=True)
    visits = models.IntegerField()

    class Meta:
        db_table = "guest_event"
        managed = False
