"""Rucio: scientific data in many places.

Declarative classes with composite keys of types of its own, tables without a key,
CHECK constraints and ENUM types by listeners on all tables, and bulk statements over
temporary tables. Its functions open sessions by a decorator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import current_thread
from typing import Any

from sqlalchemy.orm import Session

from applications.life import Application, Operation, main

CONFIG = """
[common]
[database]
default = {url}
[policy]
permission = generic
schema = generic
"""


def load(url: str, folder: Path) -> Application:
    (folder / "rucio.cfg").write_text(CONFIG.format(url=url.replace("%", "%%")))
    os.environ["RUCIO_CONFIG"] = str(folder / "rucio.cfg")
    from rucio.db.sqla import models
    from rucio.db.sqla.util import create_base_vo, create_root_account

    return Application(
        metadata=models.BASE.metadata,
        registry=models.BASE.registry,
        packages=["rucio"],
        before=[("base vo", create_base_vo), ("root", create_root_account)],
        operations=operations(),
    )


def operations() -> list[Operation]:
    from rucio.common.types import InternalAccount, InternalScope
    from rucio.core import (
        account,
        account_limit,
        config,
        did,
        distance,
        heartbeat,
        identity,
        message,
        naming_convention,
        replica,
        rse,
        rse_counter,
        rule,
        scope,
        subscription,
    )
    from rucio.db.sqla import constants as of
    from rucio.db.sqla.session import db_session

    root, ada = InternalAccount("root"), InternalAccount("ada")
    data = InternalScope("data")

    def files(count: int) -> list[dict[str, Any]]:
        return [
            {"scope": data, "name": f"file{n}", "bytes": 100 + n, "adler32": "0cc737eb"}
            for n in range(count)
        ]

    def rse_id(name: str, session: Session) -> str:
        return rse.get_rse_id(name, session=session)

    def accounts(session: Session) -> None:
        account.add_account(ada, of.AccountType.USER, "ada@x.org", session=session)
        account.update_account(ada, "email", "ada@y.org", session=session)
        account.add_account_attribute(ada, "admin", True, session=session)
        identity.add_identity("ada", of.IdentityType.SSH, "a@x.org", session=session)
        identity.add_account_identity(
            "ada", of.IdentityType.SSH, ada, "ada@x.org", session=session
        )
        account_limit.set_global_account_limit(ada, "*", 10**12, session=session)

    def scopes(session: Session) -> None:
        scope.add_scope(data, root, session=session)
        names = [InternalScope(f"s{n}") for n in range(50)]
        scope.bulk_add_scopes(names, root, session=session)
        scope.update_scope(names[3], ada, session=session)
        naming_convention.add_naming_convention(
            data, "file.*", of.KeyType.FILE, session=session
        )

    def storage(session: Session) -> None:
        for name in ("DISK", "TAPE", "OLD"):
            made = rse.add_rse(name, session=session)
            domains = {"lan": {"read": 1, "write": 1}, "wan": {"read": 1, "write": 1}}
            protocol = {"scheme": "root", "prefix": "/x", "impl": "mock"}
            protocol |= {"hostname": f"{name}.org", "port": 80, "domains": domains}
            rse.add_protocol(made, protocol, session=session)
            rse.set_rse_usage(made, "storage", 10, 1000, session=session)
            rse.set_rse_limits(made, "MinFreeSpace", 5, session=session)
            rse.add_rse_attribute(made, "country", name[0], session=session)
            account_limit.set_local_account_limit(root, made, 10**12, session=session)

    def storage_changes(session: Session) -> None:
        disk, tape = rse_id("DISK", session), rse_id("TAPE", session)
        distance.add_distance(disk, tape, 1, session=session)
        distance.update_distances(disk, tape, 2, session=session)
        rse.update_rse(tape, {"city": "Geneva", "latitude": 46.2}, session=session)
        rse.update_protocols(
            tape, "root", {"prefix": "/y"}, "TAPE.org", 80, session=session
        )
        rse.set_rse_usage(disk, "storage", 20, 990, session=session)
        rse.del_rse_attribute(tape, "country", session=session)
        rse.del_rse(rse_id("OLD", session), session=session)

    def replicas(session: Session) -> None:
        disk = rse_id("DISK", session)
        replica.add_replicas(disk, files(30), root, session=session)

    def datasets(session: Session) -> None:
        for name, type_ in [("set", "DATASET"), ("box", "CONTAINER")]:
            did.add_did(data, name, type_, root, session=session)
        disk = rse_id("DISK", session)
        did.attach_dids(data, "set", files(20), root, rse_id=disk, session=session)
        contained = [{"scope": data, "name": "set"}]
        did.attach_dids(data, "box", contained, root, session=session)
        did.set_metadata(data, "set", "project", "x", session=session)
        did.set_metadata(data, "set", "lifetime", 10**6, session=session)
        did.add_did_to_followed(data, "set", root, session=session)

    def rules(session: Session) -> None:
        what = [{"scope": data, "name": "set"}]
        for where in ("DISK", "TAPE"):
            (made,) = rule.add_rule(
                what,
                root,
                1,
                where,
                "DATASET",
                None,
                None,
                False,
                None,
                session=session,
            )
            rule.update_rule(made, {"comment": "kept"}, session=session)

    def reductions(session: Session) -> None:
        did.detach_dids(data, "set", files(3), session=session)
        did.set_status(data, "set", open=False, session=session)
        for found in list(rule.list_rules(session=session)):
            if found["rse_expression"] == "TAPE":
                rule.delete_rule(found["id"], session=session)
        for counted in ("DISK", "TAPE"):
            counter = rse_id(counted, session)
            rse_counter.increase(counter, 1, 10, session=session)
            rse_counter.update_rse_counter(counter, session=session)
        rse_counter.fill_rse_counter_history_table(session=session)

    def losses(session: Session) -> None:
        disk = rse_id("DISK", session)
        lost = [dict(file, rse_id=disk) for file in files(25)[20:]]
        replica.declare_bad_file_replicas(lost, "lost", root, session=session)
        replica.update_replicas_states(
            [dict(found, state=of.ReplicaState.UNAVAILABLE) for found in lost],
            session=session,
        )
        replica.delete_replicas(disk, files(30)[25:], session=session)

    def subscriptions(session: Session) -> None:
        arguments = ("sub", root, '{"scope": ["data"]}', "[]", "of data")
        subscription.add_subscription(*arguments, session=session)
        changes = {"comments": "of all data", "priority": 1}
        subscription.update_subscription("sub", root, changes, session=session)

    def settings(session: Session) -> None:
        config.set("limits", "files", "10", session=session)
        config.set("limits", "files", "20", session=session)
        config.set("limits", "other", "x", session=session)
        config.remove_option("limits", "other", session=session)
        config.remove_section("limits", session=session)

    def daemons(session: Session) -> None:
        heartbeat.live("reaper", "host", 1, session=session)
        heartbeat.live("reaper", "host", 2, session=session)
        heartbeat.die("reaper", "host", 2, current_thread(), session=session)
        for n in range(5):
            message.add_message("note", {"n": n}, session=session)
        found = message.retrieve_messages(bulk=3, session=session)
        # What has been sent is kept as text.
        sent = [item | {"payload": str(item["payload"])} for item in found]
        message.delete_messages(sent, session=session)

    def deletions(session: Session) -> None:
        did.set_metadata(data, "box", "lifetime", -10, session=session)
        session.flush()
        expired = did.list_expired_dids(session=session)
        did.delete_dids(expired, root, session=session)
        account.del_account(ada, session=session)

    def in_session(function: Callable[[Session], None]) -> Operation:
        def operation() -> None:
            with db_session(of.DatabaseOperationType.WRITE) as session:
                function(session)

        return function.__name__, operation

    functions = [accounts, scopes, storage, storage_changes, replicas, datasets, rules]
    functions += [reductions, losses, subscriptions, settings, daemons]
    return [*map(in_session, functions), in_session(deletions)]


if __name__ == "__main__":
    main(load)
