"""Two models with joined tables, and the context of tests that write to them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BY = {"user": 7}


def people(base: type[DeclarativeBase], of_parent: Any, of_child: Any) -> Any:
    """A Person, and an Employee with a table of its own."""

    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    if of_parent:
        of_parent(Person)

    class Employee(Person):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        salary: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "employee"}

    if of_child:
        of_child(Employee)
    return Person, Employee
