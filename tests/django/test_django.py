"""A Django program reads what is recorded, and its own context is recorded."""

from __future__ import annotations

from typing import Any

import pghistory
import pgtrigger
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.http import HttpResponse
from django.test import RequestFactory
from pghistory.middleware import HistoryMiddleware
from pghistory.models import Context, Events
from sqlalchemy import Engine
from sqlalchemy.orm import Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.install import check


@pytest.fixture
def recorded_life(models: Any, pg_session: Session) -> None:
    """Two accounts, changed in two contexts and in none."""
    with history.context(pg_session, user=7, url="/accounts"):
        ada = models.Owner(id=1, name="Ada")
        account = models.Account(id=1, owner=ada)
        other = models.Account(id=2, owner=ada, balance=9)
        pg_session.add_all([account, other])
        pg_session.commit()
    account.balance = 5
    pg_session.commit()
    with history.context(pg_session, user=8):
        account.balance = -5
        pg_session.commit()
        with history.context(pg_session, reason="closed"):
            pg_session.delete(account)
            pg_session.commit()


def test_it_lists_events_and_their_contexts(recorded_life: None, till: Any) -> None:
    events = till.AccountEvent.objects.order_by("pgh_id").values_list(
        "pgh_obj_id", "pgh_label", "pgh_op", "balance", "pgh_context__metadata"
    )
    created = {"user": 7, "url": "/accounts"}
    assert list(events) == [
        (1, "snapshot", "I", None, created),
        (2, "snapshot", "I", 9, created),
        (1, "snapshot", "U", 5, None),
        (1, "snapshot", "U", -5, {"user": 8}),
        (1, "delete", "D", -5, {"user": 8, "reason": "closed"}),
    ]
    by_user = till.AccountEvent.objects.filter(pgh_context__metadata__user=7)
    assert [event.pgh_obj.balance for event in by_user.filter(pgh_obj_id=2)] == [9]

    (event,) = till.Owner.objects.get(name="Ada").events.all()
    assert (event.pgh_label, event.name, event.pgh_obj.name) == (
        "snapshot",
        "Ada",
        "Ada",
    )
    assert event.pgh_context == created
    assert Context.objects.filter(metadata__has_key="user").count() == 3


def test_its_diffs_are_those_that_we_give(
    recorded_life: None, models: Any, till: Any, pg_session: Session
) -> None:
    def told(row: Any) -> tuple[Any, ...]:
        # Where nothing differs from the event before, we say {}, and Django None.
        diff = row.pgh_diff or None
        return (row.pgh_id, row.pgh_label, row.pgh_data, diff, row.pgh_context)

    ours = pg_session.execute(AggregateEvent.select(models.Account))
    expected = [told(row) for row in ours]

    found = Events.objects.tracks(till.Account(pk=1), till.Account(pk=2))

    assert [told(row) for row in found.order_by("pgh_id")] == expected
    assert [diff for _, _, _, diff, _ in expected] == [
        None,
        None,
        {"balance": [None, 5]},
        {"balance": [5, -5]},
        None,
    ]


def test_it_lists_the_events_of_several_models(recorded_life: None, till: Any) -> None:
    ada = till.Owner.objects.get()
    found = Events.objects.references(ada).order_by("pgh_id")
    assert [(row.pgh_model, row.pgh_obj_id) for row in found] == [
        ("till.AccountEvent", id_) for id_ in ("1", "2", "1", "1", "1")
    ]
    # A model that Django does not manage has to be named.
    assert not Events.objects.tracks(ada).exists()
    (row,) = Events.objects.across(till.OwnerEvent).tracks(ada)
    assert (row.pgh_obj_model, row.pgh_data, row.pgh_context) == (
        "till.Owner",
        {"id": 1, "name": "Ada"},
        {"user": 7, "url": "/accounts"},
    )


def test_the_context_of_a_django_process_is_recorded(
    models: Any, till: Any, recorded: Any, pg_session: Session
) -> None:
    ada = till.Owner.objects.create(name="Ada")  # in no context
    with pghistory.context(user=7) as first:
        account = till.Account.objects.create(owner=ada, balance=1)  # in autocommit
        with transaction.atomic():
            account.balance = 2
            account.save()
            # An earlier transaction has stored the context: this is one inside of it.
            pghistory.context(reason="refund")
            till.Account.objects.update(balance=F("balance") + 1)
    with pghistory.context(user=8) as second, transaction.atomic():
        till.Account.objects.bulk_create(
            till.Account(owner=ada, balance=n) for n in (10, 20)
        )
        till.Account.objects.filter(balance__gt=2).delete()
    till.Owner.objects.update(name="Ada L.")

    one, two = {"user": 7}, {"user": 8}
    assert recorded(models.Owner, "name") == [
        ("snapshot", "I", "Ada", None),
        ("snapshot", "U", "Ada L.", None),
    ]
    found = recorded(models.Account, "balance")
    assert found[:5] == [
        ("snapshot", "I", 1, one),
        ("snapshot", "U", 2, one),
        ("snapshot", "U", 3, {"user": 7, "reason": "refund"}),
        ("snapshot", "I", 10, two),
        ("snapshot", "I", 20, two),
    ]
    assert sorted(found[5:]) == [("delete", "D", n, two) for n in (3, 10, 20)]
    stored = pg_session.scalars(models.Account.events.select()).all()
    parents = {event.pgh_context.id: event.pgh_context.parent for event in stored}
    assert {first.id, second.id} <= parents.keys()
    (copy,) = parents.keys() - {first.id, second.id}
    assert parents[copy].id == first.id
    assert Context.objects.count() == 3


def test_the_past_of_what_django_wrote_can_be_seen_and_undone(
    models: Any, till: Any, pg_session: Session
) -> None:
    ada = till.Owner.objects.create(name="Ada")
    till.Account.objects.create(owner=ada, balance=1)
    with pghistory.context(user=7) as context:
        till.Account.objects.update(balance=100)
    (event,) = pg_session.scalars(
        models.Account.events.where(models.Account.events.balance == 100)
    )
    (row,) = pg_session.execute(
        AggregateEvent.select(models.Account, context={"user": 7})
    )
    assert (row.pgh_id, row.pgh_diff, row.pgh_context) == (
        event.pgh_id,
        {"balance": [1, 100]},
        {"user": 7},
    )
    assert (event.pgh_context_id, event.pgh_context.parent) == (context.id, None)

    history.undo(pg_session, models.Base, context=event.pgh_context)
    pg_session.commit()

    assert till.Account.objects.get().balance == 1


@pytest.mark.usefixtures("read_committed")
def test_erased_events_are_read_and_told_by_their_column(
    models: Any, till: Any, pg_engine: Engine, pg_session: Session
) -> None:
    """Django knows no word for it: it reads NULL, and reverts to it."""

    @track(sealed=True, erasable=["name"], erasable_context=["ip"])
    class Guest(models.Base):  # type: ignore[misc, name-defined]
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        visits: Mapped[int]

    models.Base.metadata.create_all(pg_engine)
    with pghistory.context(user=7, ip="::1"):
        ann = till.Guest.objects.create(name="Ann", visits=1)
    digest = history.seal(pg_engine, models.Base)
    history.erase(pg_session, Guest, ann.pk)
    pg_session.commit()
    till.Guest.objects.update(name="Ann again", visits=2)

    erased, now = till.GuestEvent.objects.order_by("pgh_id")
    assert (erased.name, erased.visits, erased.pgh_erased) == (None, 1, ["name"])
    assert (now.name, now.pgh_erased) == ("Ann again", None)
    assert erased.pgh_context.metadata == {"user": 7, "ip": None}
    is_erased = till.GuestEvent.objects.filter(pgh_erased__contains=["name"])
    assert [event.pgh_id for event in is_erased] == [erased.pgh_id]

    found = Events.objects.across(till.GuestEvent).tracks(ann).order_by("pgh_id")
    assert [row.pgh_data["name"] for row in found] == [None, "Ann again"]
    assert found[1].pgh_diff == {"name": [None, "Ann again"], "visits": [1, 2]}
    _, ours = pg_session.execute(AggregateEvent.select(Guest)).all()
    assert ours.pgh_diff["name"] == [{"erased": True}, "Ann again"]
    first, changed = pg_session.scalars(Guest.events.select())
    with history.as_of(pg_session, first) as past:
        assert past.get_one(Guest, ann.pk).name is history.ERASED

    history.undo(pg_session, models.Base, transaction=changed.pgh_xact_id)
    pg_session.commit()
    assert [*till.Guest.objects.values_list("name", "visits")] == [("Ann again", 1)]
    erased.revert()
    assert [*till.Guest.objects.values_list("name", "visits")] == [(None, 1)]
    assert history.verify(pg_engine, models.Base, digest=digest).discrepancies == ()


def test_what_django_reverts_is_recorded(
    recorded_life: None, models: Any, till: Any, recorded: Any
) -> None:
    event = till.AccountEvent.objects.get(balance=5)
    with pghistory.context(user=9):
        event.revert()
    assert till.Account.objects.get(pk=1).balance == 5
    assert recorded(models.Account, "id", "balance")[5:] == [
        ("snapshot", "I", 1, 5, {"user": 9})
    ]


def test_an_event_that_django_makes_by_hand_is_one_of_ours(
    models: Any, till: Any, recorded: Any
) -> None:
    Context.install_pgh_attach_context_func()  # else in a migration of django-pghistory
    with pghistory.context(user=9):
        account = till.Account.objects.create(
            owner=till.Owner.objects.create(name="Ada"), balance=1
        )
        made = pghistory.create_event(account, label="by hand")
    assert recorded(models.Account, "pgh_id", "pgh_obj_id", "balance") == [
        ("snapshot", "I", made.pgh_id - 1, account.id, 1, {"user": 9}),
        ("by hand", "M", made.pgh_id, account.id, 1, {"user": 9}),
    ]


def test_a_request_to_django_is_recorded(models: Any, till: Any, recorded: Any) -> None:
    def view(_: Any) -> HttpResponse:
        till.Owner.objects.create(name="Ada")
        return HttpResponse()

    HistoryMiddleware(view)(RequestFactory().post("/owners"))

    assert recorded(models.Owner, "name") == [
        ("snapshot", "I", "Ada", {"user": None, "url": "/owners"})
    ]


def test_its_migrations_are_faked_and_it_makes_no_trigger(
    models: Any, till: Any, pg_engine: Engine, recorded: Any
) -> None:
    call_command("migrate", fake=True, verbosity=0)
    assert pgtrigger.registered() == []
    assert check(pg_engine, models.Base) == []
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO owner VALUES (1, 'Ada')")
    assert recorded(models.Owner, "name") == [("snapshot", "I", "Ada", None)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgname NOT LIKE '%_event_%'"
        )
        assert cursor.fetchall() == []
