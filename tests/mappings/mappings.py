"""Classes at random, mapped and tracked in the ways that applications have.

A seed makes some hierarchies of classes: without inheritance, with one table for all,
with joined tables, concrete, and with three levels of both. They are declarative,
imperative or dataclasses, with mixins and abstract bases, refer to one another and to
themselves, and have columns of many types under other names than their attributes.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import random
import types
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    case,
    func,
    inspect,
)
from sqlalchemy.dialects.postgresql import INT4RANGE, JSONB, Range
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    backref,
    column_property,
    composite,
    declared_attr,
    deferred,
    mapped_column,
    relationship,
    synonym,
)

from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AnyChange,
    Snapshot,
    new,
    old,
    track,
)

SCHEMAS = ("other", "Mixed.Schema")

Make = Callable[[random.Random], Any]


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Words(TypeDecorator[Any]):
    """A list of words, stored as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _: Any) -> Any:
        return None if value is None else ",".join(value)

    def process_result_value(self, value: Any, _: Any) -> Any:
        return None if value is None else value.split(",")


class Cents(TypeDecorator[Any]):
    """An amount, stored as an integer."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, _: Any) -> Any:
        return None if value is None else decimal.Decimal(value) / 100


@dataclasses.dataclass
class Point:
    """A composite value."""

    x: int | None
    y: int | None


UTC = datetime.timezone.utc
TEXTS = ("", "a", "Zoë", "x%s", "c:d", 'q"r', "back\\slash", "null", "{1}")
TYPES: dict[str, tuple[Callable[[], Any], Make]] = {
    "int": (Integer, lambda c: c.randint(0, 9)),
    "str": (String, lambda c: c.choice(TEXTS)),
    "numeric": (Numeric, lambda c: decimal.Decimal(c.choice(("1", "1.00", "-0.1")))),
    "float": (Float, lambda c: c.choice((0.1, 1.5, -2.0))),
    "bool": (Boolean, lambda c: c.random() < 0.5),
    "date": (Date, lambda c: datetime.date(2024, 1, c.randint(1, 28))),
    "time": (
        lambda: DateTime(timezone=True),
        lambda c: datetime.datetime(2024, 1, c.randint(1, 28), tzinfo=UTC),
    ),
    "interval": (Interval, lambda c: datetime.timedelta(c.randint(-3, 40), 5)),
    "uuid": (Uuid, lambda c: uuid.UUID(int=c.randint(1, 9))),
    "bytes": (LargeBinary, lambda c: bytes([c.randint(0, 255), 0, 92])),
    "enum": (lambda: Enum(Colour), lambda c: c.choice(list(Colour))),
    "enum as text": (
        lambda: Enum(Colour, native_enum=False),
        lambda c: c.choice(list(Colour)),
    ),
    "enums": (lambda: ARRAY(Enum(Colour)), lambda c: [c.choice(list(Colour))]),
    "texts": (
        lambda: MutableList.as_mutable(ARRAY(Text)),
        lambda c: c.sample(TEXTS, c.randint(0, 2)),
    ),
    "jsonb": (
        lambda: MutableDict.as_mutable(JSONB),
        lambda c: {c.choice("ab"): c.choice((1, None, "x", [1, 2], {"y": True}))},
    ),
    "json": (JSON, lambda c: {"k": c.choice((1, True, 1.5, None))}),
    "words": (Words, lambda c: c.sample(["a", "b", "c"], c.randint(1, 3))),
    "cents": (Cents, lambda c: decimal.Decimal(c.randint(0, 500)) / 100),
    "range": (INT4RANGE, lambda c: Range(c.randint(0, 4), c.randint(5, 9))),
}
COLUMNS = ("{}", "{}", "{}_col", "Mixed {}", "{}.dot", "{}%", 'q"{}', "{}(x)", "{}:y")
TABLES = ("{}", "{}", "Tab {}", "{}.t", "T{}%")


@dataclasses.dataclass
class Attribute:
    """A column attribute, before it is mapped.

    :param make: makes a value; None if the application sets none.
    :param is_plain: whether it is one of the columns of ``TYPES``.
    :param is_read: whether another attribute is made of it.
    """

    name: str
    column: str
    type: Any
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    make: Make | None = None
    is_plain: bool = False
    is_deferred: bool = False
    is_read: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether an INSERT has to have a value."""
        has_default = {"default", "server_default"} & {*self.options}
        return not (self.options.get("nullable", True) or has_default)


@dataclasses.dataclass
class Entity:
    """A mapped class, and what sessions do with it.

    :param how: ``root``, ``single``, ``joined``, ``concrete`` or ``association``.
    :param made: of each attribute that objects may have a value of, what makes it.
    :param of_key: of each attribute of the key, what makes it; empty if the database
        does.
    :param fixed: values that all objects have.
    :param parents: the many-to-one relationships, each with the class and whether it
        may be None.
    :param collections: the many-to-many relationships, each with the class.
    """

    model: Any
    how: str
    made: dict[str, Make] = dataclasses.field(default_factory=dict)
    columns: dict[str, Attribute] = dataclasses.field(default_factory=dict)
    of_key: dict[str, Make] = dataclasses.field(default_factory=dict)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    parents: dict[str, tuple[Any, bool]] = dataclasses.field(default_factory=dict)
    collections: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> Table:
        """The table of its own, or that of its base."""
        return inspect(self.model).local_table

    @property
    def own(self) -> dict[str, Attribute]:
        """The plain attributes whose columns are in that table."""
        attributes = inspect(self.model).attrs
        return {
            name: attribute
            for name, attribute in self.columns.items()
            if attributes[name].columns[0].table is self.table
        }


Condition = tuple[str, Callable[[str, Any, Any], bool]]


class Mappings:
    """The classes of a seed.

    :param chance: what decides.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.entities: list[Entity] = []
        self.tables: list[Table] = []
        # By table the columns that are not tracked, and those that undo moves on.
        self.hidden: dict[Table, set[str]] = {}
        self.moving: dict[Table, set[str]] = {}
        self.conditions: dict[Table, Condition] = {}
        self.told: list[Any] = []
        self.are_dataclasses = self._often(0.25)
        bases = (MappedAsDataclass,) if self.are_dataclasses else ()
        options = {"kw_only": True} if self.are_dataclasses else {}
        self.base: Any = types.new_class(
            "Base",
            (*bases, DeclarativeBase),
            options,
            lambda names: names.update(metadata=MetaData(), __module__=__name__),
        )
        for number in range(chance.choice((1, 2, 2, 3))):
            self._hierarchy(f"R{number}")
        self._association()
        self._secondary()

    def _often(self, probability: float) -> bool:
        return self.chance.random() < probability

    # Attributes.

    def _plain(self, prefix: str, count: int, *, nullable: bool) -> list[Attribute]:
        found = []
        for number in range(count):
            kind = self.chance.choice([*TYPES])
            type_, make = TYPES[kind]
            may_be_null = nullable or self._often(0.7)
            options: dict[str, Any] = {"nullable": may_be_null}
            chosen = self.chance.random()
            if kind == "int" and chosen < 0.2:
                options["server_default"] = "7"
            elif kind == "int" and chosen < 0.4:
                options["default"] = lambda: 5
            elif kind == "int" and chosen < 0.5:
                options["onupdate"] = lambda: 8
            elif kind == "time" and chosen < 0.5:
                options["onupdate"] = func.clock_timestamp()
                options["server_default"] = func.now()
            name = f"{prefix}{number}"
            column = self.chance.choice(COLUMNS).format(name)
            is_deferred = self._often(0.2)
            found.append(
                Attribute(name, column, type_, (), options, make, True, is_deferred)
            )
        return found

    def _key(self, name: str) -> Attribute:
        kind = self.chance.choice(("serial", "always", "str", "uuid", "server", "int"))
        attribute = self.chance.choice(("id", f"{name.lower()}_id"))
        column = self.chance.choice((attribute, "Id", "key%"))
        type_, args, options, make = {
            "serial": (Integer, (), {}, None),
            "always": (Integer, (lambda: Identity(always=True),), {}, None),
            "str": (String, (), {}, lambda c: f"k{c.randint(1, 12)}"),
            "uuid": (Uuid, (), {"default": uuid.uuid4}, None),
            "server": (Uuid, (), {"server_default": func.gen_random_uuid()}, None),
            "int": (Integer, (), {"autoincrement": False}, lambda c: c.randint(1, 15)),
        }[kind]
        return Attribute(
            attribute, column, type_, args, {"primary_key": True, **options}, make
        )

    def _composite_key(self) -> list[Attribute]:
        options = {"primary_key": True, "autoincrement": False}
        return [
            Attribute("a", "A key", Integer, (), options, lambda c: c.randint(1, 5)),
            Attribute("b", "b", String, (), options, lambda c: c.choice("xyz")),
        ]

    # Classes.

    def _hierarchy(self, name: str) -> None:
        style = self.chance.choice(("none", "single", "joined", "deep", "concrete"))
        # A join that is mapped does not learn of columns that its tables get later.
        is_imperative = style not in ("concrete", "deep") and self._often(0.2)
        has_composite = style in ("none", "single") and self._often(0.2)
        keys = self._composite_key() if has_composite else [self._key(name)]
        columns = self._plain("c", self.chance.randint(1, 4), nullable=False)
        references = self._references(keys, is_concrete=style == "concrete")
        columns += [attribute for attribute, *_ in references]
        options: dict[str, Any] = {}
        if style in ("single", "joined", "deep"):
            options["polymorphic_on"] = self.chance.choice(("column", "expression"))
            # By an expression, SQLAlchemy takes the rows of a class in the middle for
            # that class, also those of the classes below it.
            if style == "deep":
                options["polymorphic_on"] = "column"
            is_null = options["polymorphic_on"] == "expression"
            kind = self.chance.choice(("kind", "Kind"))
            columns.append(Attribute("kind", kind, String, (), {"nullable": is_null}))
        # SQLAlchemy cannot update an object that has a version and such an expression.
        if self._often(0.25) and options.get("polymorphic_on") != "expression":
            type_ = self.chance.choice((Integer, String))
            columns.append(
                Attribute("version", "Version%", type_, (), {"nullable": False})
            )
        make = _Maker(self, keys, references, style, is_imperative=is_imperative)
        root = make.root(name, columns, options)
        has_middle = options.get("polymorphic_on") == "column"
        if style == "concrete":
            make.concrete(f"{name}C", root, columns)
        if style in ("single", "deep"):
            make.single(f"{name}S", root)
        for number in range(
            self.chance.randint(1, 2) if style in ("joined", "deep") else 0
        ):
            joined = make.joined(f"{name}J{number}", root)
            if style == "deep":
                make.single(f"{name}J{number}S", joined)
            if has_middle and self._often(0.6):
                make.joined(f"{name}J{number}J", joined)

    def _references(
        self, keys: list[Attribute], *, is_concrete: bool
    ) -> list[tuple[Attribute, str, Entity | None, str | None]]:
        """Return foreign keys to classes that there are, or to the class itself."""
        found = []
        targets = [e for e in self.entities if len(e.table.primary_key) == 1]
        for number in range(self.chance.randint(0, 2)):
            is_own = not is_concrete and len(keys) == 1 and self._often(0.35)
            if not is_own and not targets:
                continue
            target = None if is_own else self.chance.choice(targets)
            ondelete = self.chance.choice((None, None, "CASCADE", "SET NULL"))
            is_deferred = self._often(0.2)
            options = {
                "ondelete": ondelete,
                "onupdate": self.chance.choice((None, "CASCADE")),
                "initially": "DEFERRED" if is_deferred else None,
                "deferrable": is_deferred or None,
            }
            may_be_null = is_own or ondelete == "SET NULL" or self._often(0.8)
            if target is None:
                type_, args = keys[0].type, (options,)
            else:
                (key,) = target.table.primary_key
                type_, args = key.type, (self._reference(key, options),)
            column = self.chance.choice(COLUMNS).format(f"p{number}")
            attribute = Attribute(
                f"p{number}_id", column, type_, args, {"nullable": may_be_null}
            )
            found.append((attribute, f"p{number}", target, ondelete))
        return found

    @staticmethod
    def _reference(key: Column[Any], options: dict[str, Any]) -> Callable[[], Any]:
        return lambda: ForeignKey(key, **options)

    def _association(self) -> None:
        """Map an association object between two classes."""
        known = [e for e in self.entities if len(e.table.primary_key) == 1]
        if not known or self._often(0.6):
            return
        ends = {name: self.chance.choice(known) for name in ("left", "right")}
        columns = self._plain("c", self.chance.randint(0, 2), nullable=True)
        for name, end in ends.items():
            (key,) = end.table.primary_key
            reference = self._reference(
                key, {"ondelete": "CASCADE", "onupdate": "CASCADE"}
            )
            options = {"primary_key": True}
            columns.append(
                Attribute(f"{name}_id", name.title(), key.type, (reference,), options)
            )
        make = _Maker(self, [], [], "none", is_imperative=False)
        entity = make.root("Association", columns, {}, how="association")
        for name, end in ends.items():
            column = entity.table.c[name.title()]
            options = {"cascade": "all, delete-orphan"}
            if self._often(0.5):
                options["passive_deletes"] = True
            made = relationship(
                end.model,
                foreign_keys=[column],
                backref=backref(f"{name}_associations", **options),
            )
            inspect(entity.model).add_property(name, made)
            entity.parents[name] = (end.model, False)

    def _secondary(self) -> None:
        """Relate two classes by a table that is no class."""
        known = [e for e in self.entities if len(e.table.primary_key) == 1]
        if not known or self._often(0.4):
            return
        one, other = self.chance.choice(known), self.chance.choice(known)
        (one_key,), (other_key,) = one.table.primary_key, other.table.primary_key
        actions = {"ondelete": self.chance.choice((None, "CASCADE"))}
        actions["onupdate"] = "CASCADE"
        table = Table(
            self.chance.choice(TABLES).format("link"),
            self.base.metadata,
            Column("left", ForeignKey(one_key, **actions), primary_key=True),
            Column("Right id", ForeignKey(other_key, **actions), primary_key=True),
        )
        self.track(table, {})
        made = relationship(
            other.model,
            secondary=table,
            primaryjoin=one_key == table.c.left,
            secondaryjoin=table.c["Right id"] == other_key,
            passive_deletes=actions["ondelete"] is not None and self._often(0.5),
            **({"backref": "linked_from"} if self._often(0.5) else {}),
        )
        inspect(one.model).add_property("linked", made)
        for entity in self.entities:
            mapper = inspect(entity.model)
            if mapper.isa(inspect(one.model)) and not mapper.concrete:
                entity.collections["linked"] = other.model

    # Tracking.

    def track(self, target: Any, columns: dict[str, Attribute]) -> None:
        """Track a class or table in full, beside another tracker perhaps.

        :param columns: the plain attributes that may be excluded or looked at.
        """
        table = target if isinstance(target, Table) else inspect(target).local_table
        self.tables.append(table)
        options: dict[str, Any] = {}
        possible = {
            "level": ("row", "statement"),
            "context": ("inline", "reference", None),
            "append_only": (True,),
            "created_at": (func.clock_timestamp(),),
            "event_table": (f"Events of {table.name}",),
            "schema": SCHEMAS,
            "partition_by": (1000, "month"),
            "events": ("past_events",),
        }
        for name, values in possible.items():
            if self._often(0.2):
                options[name] = self.chance.choice(values)
        excludable = [
            name
            for name, attribute in columns.items()
            if attribute.options == {"nullable": True} and not attribute.is_read
        ]
        excluded = self.chance.choice(excludable) if excludable else None
        if excluded is not None and self._often(0.3):
            options["exclude"] = [excluded]
            self.hidden.setdefault(table, set()).add(columns[excluded].column)
        trackers = self.chance.choice(
            ([Snapshot, AfterDelete], [AfterDelete, AfterUpdate, AfterInsert])
        )
        numbers = [
            name
            for name, attribute in columns.items()
            if attribute.type is Integer and [name] != options.get("exclude")
        ]
        if numbers and self._often(0.6):
            trackers = [*trackers, self._conditional(table, columns[numbers[0]])]
        self.told.append((table.key, trackers, options))
        track(*trackers, **options)(target)

    def _conditional(self, table: Table, attribute: Attribute) -> Any:
        name, column = attribute.name, attribute.column

        def less(op: str, before: Any, after: Any) -> bool:
            pair = (before[column], after[column]) if op == "U" else (None, None)
            return None not in pair and pair[1] < pair[0]

        def changed(op: str, before: Any, after: Any) -> bool:
            return op == "U" and before[column] != after[column]

        def is_null(op: str, _: Any, after: Any) -> bool:
            return op == "I" and after[column] is None

        def is_large(op: str, before: Any, _: Any) -> bool:
            return op == "D" and (before[column] or 0) >= 5

        label, tracker, condition = self.chance.choice(
            (
                ("less", AfterUpdate(new[name] < old[name], label="less"), less),
                ("changed", AfterUpdate(AnyChange(name), label="changed"), changed),
                ("null", AfterInsert(new[name].is_(None), label="null"), is_null),
                ("large", AfterDelete(old[name] >= 5, label="large"), is_large),
            )
        )
        self.conditions[table] = (label, condition)
        return tracker


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class to be mapped.

    :param name: its name.
    :param parent: the class above it; None for the first of the hierarchy.
    :param has_table: False if it shares the table of its parent.
    :param attributes: its columns as they are described.
    :param columns: the columns by attribute.
    :param properties: the relationships and the like by attribute.
    :param names: what else is in the class by its name.
    :param options: the arguments of its mapper.
    """

    name: str
    parent: Entity | None
    has_table: bool
    attributes: list[Attribute]
    columns: dict[str, Any]
    properties: dict[str, Any]
    names: dict[str, Any]
    options: dict[str, Any]


class _Maker:
    """Makes the classes of one hierarchy.

    :param references: of each foreign key the attribute, the relationship, the class,
        which is None for the hierarchy itself, and what its ON DELETE does.
    """

    def __init__(
        self,
        mappings: Mappings,
        keys: list[Attribute],
        references: list[Any],
        style: str,
        *,
        is_imperative: bool,
    ) -> None:
        self.mappings = mappings
        self.chance = mappings.chance
        self.is_imperative = is_imperative
        self.is_concrete = style == "concrete"
        self.keys = keys
        self.references = references
        self.kind: str | None = None

    def root(
        self,
        name: str,
        columns: list[Attribute],
        options: dict[str, Any],
        how: str = "root",
    ) -> Entity:
        """Map the first class of the hierarchy, or the only one."""
        self.kind = options.get("polymorphic_on")
        attributes = [*self.keys, *columns, *self._generated(columns)]
        return self._map(name, None, how, attributes)

    def concrete(self, name: str, root: Entity, columns: list[Attribute]) -> None:
        """Map a subclass that has a table of its own for all of it."""
        more = self.mappings._plain("d", 1, nullable=False)
        self._map(name, root, "concrete", [*self.keys, *columns, *more])

    def single(self, name: str, parent: Entity) -> Entity:
        """Map a subclass that shares the table of its parent."""
        count = self.chance.randint(0, 2)
        more = self.mappings._plain(f"{name.lower()}_", count, nullable=True)
        return self._map(name, parent, "single", more)

    def joined(self, name: str, parent: Entity) -> Entity:
        """Map a subclass whose table is joined to that of its parent."""
        (key,) = parent.table.primary_key
        own = self.keys[0].name
        actions = {"ondelete": self.chance.choice((None, "CASCADE"))}
        actions["onupdate"] = "CASCADE"
        attribute = Attribute(
            self.chance.choice((own, own, f"{name.lower()}_key")),
            self.chance.choice(("id", "Sub Id")),
            key.type,
            (self.mappings._reference(key, actions),),
            {"primary_key": True},
        )
        count = self.chance.randint(0, 3)
        more = self.mappings._plain(f"{name.lower()}_", count, nullable=False)
        return self._map(name, parent, "joined", [attribute, *more])

    def _generated(self, columns: list[Attribute]) -> list[Attribute]:
        """Return a column that is generated from another one, or none."""
        numbers = [
            attribute.column
            for attribute in columns
            if attribute.type is Integer
            and attribute.is_plain
            and not {*attribute.column} & {*'"%:('}
        ]
        if not numbers or self.chance.random() < 0.6:
            return []
        expression = f'"{numbers[0]}" * 2'
        is_stored = self.chance.random() < 0.7
        computed = lambda: Computed(expression, persisted=is_stored)  # noqa: E731
        return [Attribute("twice", "Twice", Integer, (computed,), {"nullable": True})]

    def _map(
        self, name: str, parent: Entity | None, how: str, attributes: list[Attribute]
    ) -> Entity:
        has_table = how != "single"
        seen: set[str] = set()
        attributes = [dataclasses.replace(attribute) for attribute in attributes]
        for attribute in attributes:
            if attribute.column in seen:
                attribute.column += " too"
            seen.add(attribute.column)
        columns = {a.name: self._column(a) for a in attributes}
        as_column = {
            n: c if isinstance(c, Column) else c.column for n, c in columns.items()
        }
        for attribute, *_ in self.references if has_table else ():
            # To the hierarchy itself: the column is known only now.
            if attribute.name in columns and isinstance(attribute.args[0], dict):
                key = as_column[self.keys[0].name]
                made = ForeignKey(key, **attribute.args[0])
                as_column[attribute.name].append_foreign_key(made)
        entity = Entity(None, how)
        if parent is not None and how != "concrete":
            entity.made |= parent.made
            entity.columns |= parent.columns
            entity.of_key |= parent.of_key
            entity.parents |= parent.parents
            entity.collections |= parent.collections
        for attribute in attributes:
            if attribute.make is not None and attribute.is_plain:
                entity.made[attribute.name] = attribute.make
                entity.columns[attribute.name] = attribute
        if has_table and how != "joined":
            entity.of_key = {a.name: a.make for a in self.keys if a.make is not None}
        properties, names = self._properties(name, how, attributes, columns, entity)
        options = self._mapper_arguments(name, how, columns, as_column, entity)
        make = self._imperative if self.is_imperative else self._declarative
        entity.model = make(
            _Class(
                name, parent, has_table, attributes, columns, properties, names, options
            )
        )
        self.mappings.entities.append(entity)
        if has_table:
            self._note(entity.table)
            own = {a.name: a for a in attributes if a.is_plain}
            self.mappings.track(entity.model, own)
        for reference in self.references if how in ("root", "concrete") else ():
            self._relate(entity, *reference)
        return entity

    def _note(self, table: Table) -> None:
        """Note what events do not tell, and what an undo does not set back."""
        mappings = self.mappings
        for column in table.columns:
            if column.computed is not None and not column.computed.persisted:
                mappings.hidden.setdefault(table, set()).add(column.name)
            if column.onupdate is not None or column.name.startswith("Version%"):
                mappings.moving.setdefault(table, set()).add(column.name)

    def _column(self, attribute: Attribute) -> Any:
        type_, options = attribute.type, dict(attribute.options)
        type_ = type_() if callable(type_) else type_
        args = [made() for made in attribute.args if callable(made)]
        if self.is_imperative:
            return Column(attribute.column, type_, *args, **options)
        if self.mappings.are_dataclasses:
            options["init"] = False
            if "default" in options:
                options["insert_default"] = options.pop("default")
        options["deferred"] = attribute.is_deferred
        return mapped_column(attribute.column, type_, *args, **options)

    def _properties(
        self,
        name: str,
        how: str,
        attributes: list[Attribute],
        columns: dict[str, Any],
        entity: Entity,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return properties beside those of the columns, and names of the class."""
        properties: dict[str, Any] = {}
        names: dict[str, Any] = {}
        plain = [a for a in attributes if a.is_plain]
        numbers = [a for a in plain if a.type is Integer]
        if self.is_concrete or how == "association" or self.chance.random() < 0.5:
            return properties, names
        if numbers:
            number = numbers[0]
            column = columns[number.name]
            column = column if self.is_imperative else column.column
            properties[f"more_{name.lower()}"] = column_property(column + 1)
            number.is_read = True

            def tenfold(self: Any, of: str = number.name) -> Any:
                return None if getattr(self, of) is None else getattr(self, of) * 10

            def set_tenfold(self: Any, value: Any, of: str = number.name) -> None:
                setattr(self, of, value // 10)

            names["tenfold"] = hybrid_property(tenfold, set_tenfold)
            entity.made["tenfold"] = lambda c: c.randint(0, 9) * 10
        if plain and how == "root":
            properties["alias"] = synonym(plain[0].name)
            assert plain[0].make is not None
            entity.made["alias"] = plain[0].make
        if how == "root":
            for each in ("x", "y"):
                attribute = Attribute(
                    each, each.upper(), Integer, (), {"nullable": True}
                )
                attributes.append(attribute)
                columns[each] = self._column(attribute)
            parts = (columns["x"], columns["y"]) if self.is_imperative else ("x", "y")
            properties["point"] = composite(Point, *parts)
            entity.made["point"] = lambda c: Point(c.randint(0, 3), None)
        return properties, names

    def _mapper_arguments(
        self,
        name: str,
        how: str,
        columns: dict[str, Any],
        as_column: dict[str, Column[Any]],
        entity: Entity,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {}
        identity = name.lower()
        if self.kind is not None:
            options["polymorphic_identity"] = identity
            if how == "root" and self.kind == "column":
                options["polymorphic_on"] = columns["kind"]
            elif how == "root":
                kind = as_column["kind"]
                options["polymorphic_on"] = case((kind.is_(None), identity), else_=kind)
            elif self.chance.random() < 0.3:
                load = self.chance.choice(("inline", "selectin"))
                options["polymorphic_load"] = load
            if how == "root" and self.chance.random() < 0.2:
                options["with_polymorphic"] = "*"
            if how != "root" and self.kind == "expression":
                entity.fixed["kind"] = identity
        if how == "concrete":
            options["concrete"] = True
        if "version" in columns:
            options["version_id_col"] = columns["version"]
            if isinstance(as_column["version"].type, String):
                options["version_id_generator"] = lambda _: uuid.uuid4().hex
        return options

    def _imperative(self, wanted: _Class) -> Any:
        parent, columns = wanted.parent, wanted.columns
        bases = (object,) if parent is None else (parent.model,)
        model = type(wanted.name, bases, {"__module__": __name__, **wanted.names})
        mapped: dict[str, Any] = {}
        for attribute in wanted.attributes:
            column = columns[attribute.name]
            known = inspect(parent.model).attrs if parent is not None else {}
            if attribute.name in known:
                mapped[attribute.name] = [column, *known[attribute.name].columns]
            else:
                mapped[attribute.name] = (
                    deferred(column) if attribute.is_deferred else column
                )
        if wanted.has_table:
            table = Table(
                self._table_name(wanted.name),
                self.mappings.base.metadata,
                *columns.values(),
                schema=self._schema(),
            )
        else:
            assert parent is not None
            table = None
            for column in columns.values():
                parent.table.append_column(column)
        self.mappings.base.registry.map_imperatively(
            model,
            table,
            inherits=None if parent is None else parent.model,
            properties={**mapped, **wanted.properties},
            **wanted.options,
        )
        return model

    def _declarative(self, wanted: _Class) -> Any:
        name, parent, columns = wanted.name, wanted.parent, wanted.columns
        names = {
            **wanted.names,
            "__module__": __name__,
            "__mapper_args__": wanted.options,
        }
        bases: tuple[Any, ...] = (
            self.mappings.base if parent is None else parent.model,
        )
        if wanted.has_table:
            names["__tablename__"] = self._table_name(name)
            names["__table_args__"] = {"schema": self._schema()}
        if parent is None and self.chance.random() < 0.3:
            abstract = {"__abstract__": True, "__module__": __name__}
            bases = (self._new_class(f"{name}Abstract", bases, abstract),)
        in_mixin = {
            attribute.name: attribute
            for attribute in wanted.attributes
            if attribute.is_plain and attribute.type is not Integer
        }
        if parent is None and not self.is_concrete and self.chance.random() < 0.4:
            bases = (self._mixin(name, in_mixin, columns), *bases)
            columns = {n: c for n, c in columns.items() if n not in in_mixin}
        names |= columns | wanted.properties
        names["__annotations__"] = dict.fromkeys(columns, Mapped[Any])
        return self._new_class(name, bases, names)

    def _mixin(
        self, name: str, attributes: dict[str, Attribute], columns: dict[str, Any]
    ) -> Any:
        """Return a mixin with columns, some of which are made for each class."""
        names: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
        for attribute in attributes.values():
            if self.mappings.are_dataclasses or self.chance.random() < 0.5:
                names[attribute.name] = columns[attribute.name]
                names["__annotations__"][attribute.name] = Mapped[Any]
            else:

                def made(_: Any, attribute: Attribute = attribute) -> Any:
                    return self._column(attribute)

                made.__name__ = attribute.name
                made.__annotations__ = {"return": Mapped[Any]}
                names[attribute.name] = declared_attr(made)
        bases = (MappedAsDataclass,) if self.mappings.are_dataclasses else ()
        return self._new_class(f"{name}Mixin", bases, names)

    def _new_class(self, name: str, bases: Any, names: dict[str, Any]) -> Any:
        options = {"kw_only": True} if self.mappings.are_dataclasses else {}
        return types.new_class(name, bases, options, lambda ns: ns.update(names))

    def _table_name(self, name: str) -> str:
        return self.chance.choice(TABLES).format(name.lower())

    def _schema(self) -> str | None:
        return self.chance.choice((None, None, None, *SCHEMAS))

    def _relate(
        self,
        entity: Entity,
        attribute: Attribute,
        name: str,
        target: Entity | None,
        ondelete: str | None,
    ) -> None:
        """Add the relationship of a foreign key, and its other side."""
        mapper = inspect(entity.model)
        (column,) = mapper.attrs[attribute.name].columns
        model = entity.model if target is None else target.model
        options: dict[str, Any] = {"foreign_keys": [column]}
        if target is None:
            options["remote_side"] = [*entity.table.primary_key]
            options["post_update"] = self.chance.random() < 0.3
        if self.chance.random() < 0.6:
            other: dict[str, Any] = {}
            if ondelete is not None and self.chance.random() < 0.6:
                other["passive_deletes"] = self.chance.choice((True, "all"))
            if other.get("passive_deletes") != "all" and self.chance.random() < 0.35:
                other["cascade"] = "all, delete-orphan"
                options["single_parent"] = True
            back = f"{name}_of_{entity.model.__name__.lower()}"
            options["backref"] = backref(back, **other)
        if target is not None:
            options["lazy"] = self.chance.choice(("select", "joined", "selectin"))
        mapper.add_property(name, relationship(model, **options))
        entity.parents[name] = (model, bool(column.nullable))
