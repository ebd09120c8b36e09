"""QCFractal: quantum chemistry of many machines, its records, datasets and queues.

Joined inheritance of seven kinds of records and datasets, whose rows the database
removes by triggers of the application, arrays, composite keys, and bulk inserts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from applications.life import Application, Operation, main

TASKS = {"psi4": ["1.9"], "geometric": ["1.0"], "qcengine": ["0.30"]}


def load(url: str, folder: Path) -> Application:
    import qcfractal.components.register_all  # noqa: F401 (all models)
    from qcfractal.config import FractalConfig
    from qcfractal.db_socket import SQLAlchemySocket
    from qcfractal.db_socket.base_orm import BaseORM

    config = FractalConfig(
        base_folder=str(folder),
        database={
            "full_uri": url.replace("+psycopg", ""),
            "username": "",
            "password": "",
            "own": False,
        },
        api={"secret_key": "s" * 40, "jwt_secret_key": "j" * 40},
    )
    # Its own drop_all fails, since views depend on others.
    drop_views = sa.DDL("DROP VIEW IF EXISTS record_children_view CASCADE")
    sa.event.listen(BaseORM.metadata, "before_drop", drop_views, insert=True)
    return Application(
        metadata=BaseORM.metadata,
        registry=BaseORM.registry,
        packages=["qcfractal", "qcportal"],
        operations=operations(lambda: SQLAlchemySocket(config)),
        create=lambda _: SQLAlchemySocket.create_database_tables(config.database),
        overlooked=["alembic_version"],
        autocommitted=["ProjectDatasetORM", "ProjectRecordORM"],
    )


def operations(connect: Callable[[], Any]) -> list[Operation]:
    from qcelemental.models.v1 import ComputeError, FailedOperation
    from qcportal.auth import GroupInfo, UserInfo
    from qcportal.compression import CompressionEnum, compress
    from qcportal.managers import ManagerName
    from qcportal.molecules import Molecule
    from qcportal.optimization import OptimizationSpecification
    from qcportal.record_models import PriorityEnum
    from qcportal.singlepoint import (
        QCSpecification,
        SinglepointDatasetNewEntry,
        SinglepointDatasetSpecification,
    )

    found: dict[str, Any] = {}
    energy = QCSpecification(program="psi4", driver="energy", method="hf", basis="sto")

    def helium(distance: int) -> Molecule:
        return Molecule(symbols=["He", "He"], geometry=[0, 0, 0, 0, 0, 2.0 + distance])

    def compressed(result: dict[str, Any]) -> bytes:
        data, *_ = compress(result, CompressionEnum.zstd)
        return data

    def users() -> None:
        socket = found["socket"] = connect()
        socket.groups.add(GroupInfo(groupname="chemists", description="of the lab"))
        for name in ("ada", "bob"):
            user = UserInfo(
                username=name, role="submit", groups=["chemists"], enabled=True
            )
            socket.users.add(user, "a password of length")
        ada = UserInfo(**socket.users.get("ada"))
        socket.users.modify(ada.model_copy(update={"fullname": "Ada L."}), True)
        socket.users.set_preferences(ada.id, {"columns": ["id", "status"]})
        socket.users.change_password("bob", "another password of length")

    def molecules() -> None:
        _, ids = found["socket"].molecules.add([helium(n) for n in range(12)])
        found["molecules"] = ids
        found["socket"].molecules.modify(
            ids[0],
            name="one",
            comment="first",
            identifiers=None,
            overwrite_identifiers=False,
        )

    def records() -> None:
        socket = found["socket"]
        _, singles = socket.records.singlepoint.add(
            found["molecules"][:8], energy, "*", PriorityEnum.normal, "ada", True
        )
        gradient = QCSpecification(
            program="psi4", driver="deferred", method="b3lyp", basis="6-31g"
        )
        geometry = OptimizationSpecification(
            program="geometric", qc_specification=gradient
        )
        _, optimizations = socket.records.optimization.add(
            found["molecules"][:4], geometry, "big", PriorityEnum.low, "bob", True
        )
        found.update(singles=singles, optimizations=optimizations)

    def failures() -> None:
        socket = found["socket"]
        name = ManagerName(
            cluster="cluster", hostname="host", uuid="1234-5678-1234-5678"
        )
        socket.managers.activate(name, "1.0", "bob", TASKS, ["*"])
        tasks = socket.tasks.claim_tasks(name.fullname, TASKS, ["*"], limit=5)
        failed = FailedOperation(
            error=ComputeError(error_type="test", error_message="it broke")
        )
        results = {t["id"]: compressed(failed.dict()) for t in tasks}
        socket.tasks.update_finished(name.fullname, results)
        socket.managers.update_resource_stats(name.fullname, 5, 1, 10.0, 1.5)
        found["manager"] = name.fullname

    def states() -> None:
        socket, singles = found["socket"], found["singles"]
        socket.records.reset(singles[:2])
        socket.records.cancel(singles[5:7])
        socket.records.uncancel(singles[6:7])
        socket.records.invalidate(singles[:1])
        socket.records.modify(singles[6:], "small", PriorityEnum.high)
        socket.records.add_comment(singles[:3], None, "looks wrong")

    def datasets() -> None:
        single = found["socket"].datasets.singlepoint
        number = single.add(
            "water",
            "of the lab",
            "",
            ["w"],
            {},
            "*",
            PriorityEnum.low,
            {},
            "ada",
            False,
        )
        single.add_specifications(
            number,
            [SinglepointDatasetSpecification(name="energy", specification=energy)],
        )
        single.add_entries(
            number,
            [
                SinglepointDatasetNewEntry(name=f"entry {n}", molecule=molecule)
                for n, molecule in enumerate(found["molecules"])
            ],
        )
        single.submit(number, None, None, None, None, "ada", True)
        single.rename_entries(number, {"entry 0": "entry zero"})
        single.rename_specifications(number, {"energy": "b3lyp"})
        single.delete_entries(number, ["entry 11"], delete_records=False)
        single.remove_records(number, ["entry 10"], ["b3lyp"], delete_records=False)
        found["dataset"] = number

    def projects() -> None:
        socket = found["socket"]
        number = socket.projects.add(
            *("thesis", "", "", ["t"], "*", PriorityEnum.normal, {}, "ada", None, False)
        )
        socket.projects.link_dataset(number, found["dataset"], "water", "", "", [])
        socket.projects.link_record(number, found["singles"][3], "three", "", [])
        socket.projects.unlink_records(number, [found["singles"][3]], False)
        found["project"] = number

    def removals() -> None:
        socket = found["socket"]
        # The application's triggers remove the rows of the base table.
        socket.records.delete(found["optimizations"][:2], soft_delete=False)
        socket.records.delete(found["singles"][7:8])
        socket.records.undelete(found["singles"][7:8])
        socket.projects.unlink_datasets(
            found["project"], [found["dataset"]], False, False
        )
        socket.datasets.singlepoint.delete_dataset(found["dataset"], False)
        socket.molecules.delete(found["molecules"][11:])
        socket.managers.deactivate([found["manager"]])

    works = [
        *(users, molecules, records, failures, states, datasets, projects, removals),
    ]
    return [(work.__name__, work) for work in works]


if __name__ == "__main__":
    main(load)
