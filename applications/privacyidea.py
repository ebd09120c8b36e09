"""privacyIDEA: tokens of users, and the policies of their use.

Flask-SQLAlchemy of SQLAlchemy 2.1, with sequences, with properties that read and write
other columns, and with functions that look up, change and save one object at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

from applications.life import Application, Operation, main

CONFIG = """
SQLALCHEMY_DATABASE_URI = {url!r}
SECRET_KEY = "of a test, of thirty-two bytes and more"
PI_PEPPER = "pepper"
PI_ENCFILE = {key!r}
PI_HASH_ALGO_LIST = ["pbkdf2_sha512"]
PI_AUDIT_MODULE = "privacyidea.lib.auditmodules.sqlaudit"
PI_AUDIT_NO_SIGN = True
"""


def load(url: str, folder: Path) -> Application:
    key = folder / "enckey"
    key.write_bytes(os.urandom(96))
    (folder / "pi.cfg").write_text(CONFIG.format(url=url, key=str(key)))
    os.chdir(folder)  # it writes a log
    from privacyidea.app import create_app
    from privacyidea.models import db

    app = create_app("production", config_file=str(folder / "pi.cfg"), silent=True)
    app.app_context().push()
    return Application(
        metadata=db.metadata,
        registry=db.Model.registry,
        packages=["privacyidea", "flask_sqlalchemy"],
        operations=operations(),
    )


def operations() -> list[Operation]:
    from privacyidea.lib import (
        auth,
        config,
        container,
        event,
        monitoringstats,
        periodictask,
        policy,
        realm,
        resolver,
        smtpserver,
        token,
        tokengroup,
    )

    def settings() -> None:
        for value in ("10", "20"):
            config.set_privacyidea_config("DefaultMaxFailCount", value)
        config.set_privacyidea_config("splitAtSign", True, desc="of names")
        config.delete_privacyidea_config("splitAtSign")

    def admins() -> None:
        for name in ("ada", "bob"):
            auth.create_db_admin(name, email=f"{name}@x.org", password="secret")
        auth.delete_db_admin("bob")

    def realms() -> None:
        Path("users").write_text("ada:x:1:1:Ada,,,:/:/bin/sh\n")
        for name in ("people", "others"):
            resolver.save_resolver(
                {"resolver": name, "type": "passwdresolver", "fileName": "users"}
            )
            realm.set_realm(name, [{"name": name}])
        realm.set_realm("people", [{"name": "people", "priority": 3}])
        realm.delete_realm("others")
        resolver.delete_resolver("others")

    def tokens() -> None:
        for number in range(8):
            token.init_token(
                {"serial": f"T{number}", "type": "hotp", "genkey": 1, "pin": "1"},
                tokenrealms=["people"] if number % 2 else None,
            )
        tokengroup.set_tokengroup("new", "of this year")

    def token_changes() -> None:
        token.set_description("T0", "the first")
        token.set_pin("T1", "1234", encrypt_pin=True)
        token.enable_token("T2", enable=False)
        token.set_max_failcount("T3", 3)
        token.add_tokeninfo("T4", "colour", "blue")
        token.add_tokeninfo("T4", "colour", "red")
        token.set_realms("T5", ["people"])
        token.set_realms("T5", [])
        token.revoke_token("T6")

    def containers() -> None:
        made = container.init_container({"type": "generic", "description": "box"})
        serial = made["container_serial"]
        for number in range(3):
            container.add_token_to_container(serial, f"T{number}")
        container.set_container_description(serial, "of ada")
        container.set_container_states(serial, ["disabled"])
        other = container.init_container({"type": "smartphone"})
        container.delete_container_by_serial(other["container_serial"])

    def policies() -> None:
        for number in range(3):
            policy.set_policy(
                f"p{number}",
                scope="authentication",
                action="otppin=userstore",
                realm="people",
                user="ada",
                priority=number + 1,
                conditions=[("userinfo", "mail", "equals", "x", True)],
            )
        policy.set_policy("p0", priority=9, conditions=[])
        policy.enable_policy("p1", False)
        policy.delete_policy("p2")

    def events() -> None:
        made = event.set_event(
            "notify",
            event="token_init",
            handlermodule="Token",
            action="enable",
            conditions={"tokentype": "hotp"},
            options={"a": "1", "b": "2"},
        )
        event.set_event(
            "notify",
            event=["token_init", "token_assign"],
            handlermodule="Token",
            action="enable",
            conditions={},
            options={"b": "3"},
            id=made,
        )
        event.enable_event(made, False)
        other = event.set_event("x", event="e", handlermodule="Token", action="a")
        event.delete_event(other)

    def tasks() -> None:
        made = periodictask.set_periodic_task(
            "clean", "0 8 * * *", ["Node1"], "SimpleStats", options={"a": "1"}
        )
        periodictask.set_periodic_task(
            "clean", "0 9 * * *", ["Node2"], "SimpleStats", options={"b": "1"}, id=made
        )

    def servers() -> None:
        for port in (25, 587):
            smtpserver.add_smtpserver("mail", server="x.org", port=port)

    def statistics() -> None:
        for number in range(4):
            monitoringstats.write_stats("tokens", number)
        monitoringstats.write_stats("tokens", 9, reset_values=True)

    def removals() -> None:
        for number in (0, 4, 5):
            token.remove_token(f"T{number}")
        tokengroup.delete_tokengroup("new")
        policy.delete_policy("p0")

    functions = [settings, admins, realms, tokens, token_changes, containers]
    functions += [policies, events, tasks, servers, statistics, removals]
    return [(function.__name__, function) for function in functions]


if __name__ == "__main__":
    main(load)
