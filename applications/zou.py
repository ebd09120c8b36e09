"""Zou, the server of Kitsu: the production of animated films.

Flask-SQLAlchemy with models by ``db.Column`` and a mixin, association tables that are
models, types of SQLAlchemy-Utils inside of arrays, and sessions of requests.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from pathlib import Path

from applications.life import Application, Operation, main


def load(url: str, folder: Path) -> Application:
    os.environ |= {"SECRET_KEY": "of a test", "CACHE_TYPE": "simple"}
    os.environ |= {"PREVIEW_FOLDER": str(folder), "TMP_DIR": str(folder)}
    from zou.app import config

    config.SQLALCHEMY_DATABASE_URI = url
    from zou.app import create_app, db

    create_app(with_plugins=False).app_context().push()
    return Application(
        metadata=db.metadata,
        registry=db.Model.registry,
        packages=["zou", "sqlalchemy_utils", "flask_sqlalchemy"],
        operations=operations(),
        # UNIQUE with the columns of the key, of which PostgreSQL makes no index.
        overlooked=[
            "department_link_uc",
            "department_metadata_descriptor_link_uc",
            "task_type_asset_type_link_uc",
        ],
    )


def operations() -> list[Operation]:
    from zou.app import db
    from zou.app.models.department import Department
    from zou.app.models.entity import Entity
    from zou.app.models.event import ApiEvent
    from zou.app.models.organisation import Organisation
    from zou.app.models.person import Person
    from zou.app.models.project import Project, ProjectTaskStatusLink
    from zou.app.models.search_filter import SearchFilter
    from zou.app.models.software import Software
    from zou.app.models.studio import Studio
    from zou.app.models.task import Task
    from zou.app.models.task_status import TaskStatus
    from zou.app.models.task_type import TaskType
    from zou.app.services import (
        assets_service,
        breakdown_service,
        cascade_deletion_service,
        comments_service,
        deletion_service,
        departments_service,
        entity_types_service,
        files_service,
        persons_service,
        preview_files_service,
        projects_service,
        shots_service,
        tasks_service,
        time_spents_service,
    )

    def project() -> Project:
        return Project.get_by(name="Big film")

    def studio_and_people() -> None:
        Organisation.create(name="Ours", hours_by_day=8)
        Studio.create(name="Here", color="#112233")
        Studio.get_by(name="Here").update({"color": "#445566"})
        made = departments_service.get_or_create_department("Modeling", "#000000")
        for name in ("ada", "bob", "eve"):
            persons_service.create_person(
                f"{name}@x.org",
                b"secret",
                name,
                "X",
                role="user",
                departments=[made["id"]],
            )
        ada = Person.get_by(first_name="ada")
        persons_service.update_person(ada.id, {"phone": "12", "role": "manager"})
        persons_service.remove_from_department(made["id"], ada.id)
        persons_service.add_to_department(made["id"], ada.id)
        ada.update({"fido_credentials": [{"a": 1}], "otp_recovery_codes": [b"x"]})

    def softwares() -> None:
        made = Software.create(
            name="Blend",
            short_name="b",
            file_extension="blend",
            secondary_extensions=["b1"],
        )
        department = Department.get_by(name="Modeling")
        departments_service.add_software_to_department(department.id, made.id)
        departments_service.remove_software_from_department(department.id, made.id)
        departments_service.add_software_to_department(department.id, made.id)

    def types() -> None:
        department = Department.get_by(name="Modeling")
        for name in ("Model", "Rig", "Light"):
            TaskType.create(name=name, short_name=name[:3], department_id=department.id)
        for name, short in (("Todo", "todo"), ("Wip", "wip"), ("Done", "done")):
            TaskStatus.create(
                name=name,
                short_name=short,
                color="#fff",
                is_default=short == "todo",
                is_done=short == "done",
            )
        assets_service.create_asset_types(["Props", "Characters"])

    def new_project() -> None:
        status = projects_service.get_or_create_open_status()
        made = Project.create(
            name="Big film",
            project_status_id=status["id"],
            start_date=date(2026, 1, 1),
            data={"deep": {"x": [1]}},
        )
        for person in Person.get_all():
            projects_service.add_team_member(made.id, person.id, "user")
        projects_service.update_team_member_role(
            made.id, Person.get_by(first_name="ada").id, "manager"
        )
        for number, kind in enumerate(TaskType.get_all()):
            projects_service.add_task_type_setting(made.id, kind.id, number)
        for found in TaskStatus.get_all():
            projects_service.add_task_status_setting(made.id, found.id)
        projects_service.update_project(made.id, {"fps": "25", "nb_episodes": 3})

    def entities() -> None:
        kind = entity_types_service.get_asset_types()[0]["id"]
        for name in ("Tree", "Rock", "Car"):
            assets_service.create_asset(project().id, kind, name, "", {"size": 3})
        tree = Entity.get_by(name="Tree")
        assets_service.update_asset(tree.id, {"description": "green", "data": {}})
        episode = shots_service.create_episode(project().id, "E1")
        sequence = shots_service.create_sequence(project().id, episode["id"], "S1")
        for number in range(10):
            shots_service.create_shot(
                project().id, sequence["id"], f"P{number}", nb_frames=number
            )

    def casting() -> None:
        tree, rock = Entity.get_by(name="Tree"), Entity.get_by(name="Rock")
        shot = Entity.get_by(name="P1")
        breakdown_service.create_casting_link(shot.id, tree.id, 2, "fixed")
        breakdown_service.create_casting_link(shot.id, rock.id, 1, "animate")
        cast = [{"asset_id": str(tree.id), "nb_occurences": 5, "label": "animate"}]
        breakdown_service.update_casting(shot.id, cast)

    def tasks() -> None:
        kind = TaskType.get_by(name="Model").serialize()
        shots = [Entity.get_by(name=f"P{number}").serialize() for number in range(10)]
        tasks_service.create_tasks(kind, shots)
        first = Task.get_all()[0]
        first.set_assignees([str(person.id) for person in Person.get_all()])
        tasks_service.update_task(
            first.id,
            {"priority": 3, "estimation": 2.5, "due_date": datetime(2026, 5, 1)},
        )
        first.set_assignees([str(Person.get_by(first_name="ada").id)])

    def comments() -> None:
        ada, wip = Person.get_by(first_name="ada"), TaskStatus.get_by(name="Wip")
        for task in Task.get_all()[:3]:
            made = comments_service.new_comment(
                task.id,
                wip.id,
                ada.id,
                "@bob look",
                checklist=[{"text": "a"}],
                links=["http://x.org"],
            )
            comments_service.reset_mentions(made)
        kept = files_service.create_preview_file_raw(
            "p", 1, Task.get_all()[0].id, ada.id, "zou"
        )
        preview_files_service.update_preview_file(
            kept.id, {"annotations": [{"time": 0}]}
        )

    def times() -> None:
        ada, task = Person.get_by(first_name="ada"), Task.get_all()[0]
        for hours in (60, 120):
            time_spents_service.create_or_update_time_spent(
                str(task.id), str(ada.id), "2026-05-01", hours
            )
        time_spents_service.create_or_update_time_spent(
            str(task.id), str(ada.id), "2026-05-02", 30
        )
        time_spents_service.delete_time_spent(str(task.id), str(ada.id), "2026-05-02")

    def bulk() -> None:
        Entity.query.filter(Entity.nb_frames > 3).update({"nb_frames": 24})
        db.session.execute(
            db.update(ProjectTaskStatusLink).values(roles_for_board=["admin"])
        )
        db.session.commit()
        SearchFilter.create(
            list_type="asset", name="mine", search_query="a=b", project_id=project().id
        )
        SearchFilter.delete_all_by(name="mine")
        ApiEvent.delete_all_by(name="shot:new")

    def removals() -> None:
        task = Task.get_all()[0]
        deletion_service.remove_task(str(task.id), force=True)
        cascade_deletion_service.remove_shot(
            str(Entity.get_by(name="P9").id), force=True
        )
        projects_service.remove_team_member(
            project().id, Person.get_by(first_name="eve").id
        )
        Person.get_by(first_name="eve").delete()

    functions = [studio_and_people, softwares, types, new_project, entities, casting]
    functions += [tasks, comments, times, bulk, removals]
    return [(function.__name__, function) for function in functions]


if __name__ == "__main__":
    main(load)
