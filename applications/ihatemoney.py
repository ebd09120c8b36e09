"""I hate money: what the members of a group have paid, and for whom.

Flask-SQLAlchemy, driven by the requests of its JSON interface and of its forms. It has
SQLAlchemy-Continuum on the same models, whose version tables are tracked as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from applications.life import Application, Operation, main

PASSWORD = "a password"


def load(url: str, folder: Path) -> Application:
    from ihatemoney import run
    from ihatemoney.models import db

    class Settings:
        # It compares numbers with text, which psycopg does not.
        SQLALCHEMY_DATABASE_URI = url.replace("+psycopg:", "+psycopg2:")
        SECRET_KEY = "of a test"
        WTF_CSRF_ENABLED = False
        RATELIMIT_ENABLED = False
        SESSION_COOKIE_SECURE = False
        MAIL_SUPPRESS_SEND = True
        TESTING = True

    # Its revisions leave tables that are not as its models are.
    run.upgrade = lambda _: None
    app = run.create_app(Settings, instance_path=str(folder))
    app.app_context().push()
    return Application(
        metadata=db.metadata,
        registry=db.Model.registry,
        packages=["ihatemoney", "flask_sqlalchemy", "sqlalchemy_continuum"],
        operations=operations(app.test_client()),
    )


def operations(client: Any) -> list[Operation]:
    from ihatemoney.models import Project
    from sqlalchemy_continuum import remove_versioning

    account = ("trip", PASSWORD)
    found: dict[str, Any] = {}

    def call(method: str, path: str, status: int, **data: Any) -> Any:
        answer = client.open(
            f"/api/projects{path}", method=method, auth=account, data=data
        )
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer.json

    def post(path: str, **data: Any) -> None:
        answer = client.post(path, data=data)
        assert answer.status_code in (200, 302), (path, answer.status_code)

    def project() -> None:
        call(
            *("POST", "", 201),
            name="Trip",
            id="trip",
            password=PASSWORD,
            contact_email="ada@example.com",
            default_currency="XXX",
        )

    def members() -> None:
        found["members"] = [
            call("POST", "/trip/members", 201, name=name, weight=weight)
            for name, weight in [("ada", 1), ("bob", 2), ("cleo", 1), ("dan", 1)]
        ]

    def bill(number: int) -> dict[str, Any]:
        payer, *others = found["members"][:3]
        return {
            "date": f"2026-07-{number + 1:02}",
            "what": f"bill {number}",
            "bill_type": "Expense",
            "payer": payer,
            "payed_for": others,
            "amount": f"{number}.25",
            "original_currency": "XXX",
        }

    def bills() -> None:
        found["bills"] = [
            call("POST", "/trip/bills", 201, **bill(number)) for number in range(1, 9)
        ]

    def changes() -> None:
        first, second, *_ = found["bills"]
        call(
            "PUT",
            f"/trip/bills/{first}",
            200,
            **{**bill(1), "what": "dinner", "payed_for": found["members"]},
        )
        call("DELETE", f"/trip/bills/{second}", 200)
        ada, bob, _, dan = found["members"]
        call(
            *("PUT", f"/trip/members/{bob}", 200),
            **{"name": "Bob B.", "weight": 3, "activated": True},
        )
        call("DELETE", f"/trip/members/{ada}", 200)  # deactivates her
        call("DELETE", f"/trip/members/{dan}", 200)

    def forms() -> None:
        post("/authenticate", id="trip", password=PASSWORD)
        post(f"/trip/members/{found['members'][0]}/reactivate")
        post("/trip/members/add", name="eve", weight="1")
        post(
            "/trip/settle",
            sender_id=str(found["members"][1]),
            receiver_id=str(found["members"][0]),
            amount="2.5",
        )

    def privacy() -> None:
        # Continuum writes nothing from then on.
        call(
            *("PUT", "/trip", 200),
            name="The trip",
            contact_email="ada@example.com",
            default_currency="XXX",
            current_password=PASSWORD,
            password=PASSWORD,
            project_history="",
        )
        call("POST", "/trip/bills", 201, **{**bill(20), "payer": found["members"][1]})

    def history_erased() -> None:
        post("/trip/erase_history", password=PASSWORD)

    def demo() -> None:
        client.get("/demo")

    def removal() -> None:
        call("DELETE", "/trip", 200)

    def end() -> None:
        # Its listeners refuse what any other session writes to association tables.
        remove_versioning(manager=Project.__versioning_manager__)

    works = [
        *(project, members, bills, changes, privacy, forms, history_erased, demo),
        *(removal, end),
    ]
    return [(work.__name__, work) for work in works]


if __name__ == "__main__":
    main(load)
