"""Types of an application: a revision can neither import them nor repeat their repr."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import (
    JSON,
    Dialect,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    String,
    Text,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    CITEXT,
    DOMAIN,
    ENUM,
    HSTORE,
    INT4MULTIRANGE,
    INT4RANGE,
    JSONB,
    TSVECTOR,
)
from sqlalchemy.types import TypeEngine, UserDefinedType


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Encrypted(TypeDecorator[str]):
    """Its repr shows a length, which its constructor does not take."""

    impl = String
    cache_ok = True

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(length=1000)


class Model(TypeDecorator[Any]):
    """Its repr shows ``astext_type``, which its constructor does not take."""

    impl = JSONB
    cache_ok = True

    def __init__(self, model: type[Any]) -> None:
        self.model = model
        super().__init__()


class Guid(TypeDecorator[Any]):
    """What it is depends on the database."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        is_postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(Uuid() if is_postgresql else String(32))


class Twice(TypeDecorator[Any]):
    impl = Encrypted("key")
    cache_ok = True


class Document(JSON):
    """A subclass of a type of SQLAlchemy."""

    def __init__(self, schema: dict[str, str]) -> None:
        self.schema = schema
        super().__init__()


class Slug(String):
    def __init__(self, words: int) -> None:
        self.words = words
        super().__init__(length=words * 10)


class Money(Numeric[Any]):
    def __init__(self, currency: str) -> None:
        self.currency = currency
        super().__init__(precision=12, scale=2)


class ColourList(TypeDecorator[Any]):
    impl = ARRAY(Enum(Colour, name="colour"))
    cache_ok = True


class Box(UserDefinedType[Any]):
    """A type of PostgreSQL that SQLAlchemy does not have."""

    cache_ok = True

    def __init__(self, corners: int, unit: str) -> None:
        self.corners, self.unit = corners, unit

    def get_col_spec(self, **_: Any) -> str:
        return "box"


class Bits(UserDefinedType[Any]):
    cache_ok = True

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def get_col_spec(self, **_: Any) -> str:
        return f"bit varying({len(self.names)})"


TYPES: dict[str, tuple[TypeEngine[Any], str]] = {
    "encrypted": (Encrypted("key"), "character varying(1000)"),
    "model": (Model(dict), "jsonb"),
    "guid": (Guid(), "uuid"),
    "twice": (Twice(), "character varying(1000)"),
    "document": (Document({"a": "b"}), "json"),
    "slug": (Slug(3), "character varying(30)"),
    "money": (Money("EUR"), "numeric(12,2)"),
    "box": (Box(4, "cm"), "box"),
    "boxes": (ARRAY(Box(4, "cm")), "box[]"),
    "bits": (Bits(("a", "b")), "bit varying(2)"),
    "encrypted_list": (ARRAY(Encrypted("key")), "character varying(1000)[]"),
    "matrix": (ARRAY(Integer, dimensions=2), "integer[]"),
    "colour": (Enum(Colour, name="colour"), "colour"),
    "colours": (ColourList(), "colour[]"),
    "odd": (ENUM("50%", name='odd "50%" enum'), '"odd ""50%"" enum"'),
    "size": (
        Enum("s", "xl", name="size", native_enum=False, create_constraint=True),
        "character varying(2)",
    ),
    "age": (DOMAIN("age", Integer(), check="VALUE > 0"), "age"),
    "variant": (
        Text().with_variant(Bits(("a",)), "postgresql"),
        "bit varying(1)",
    ),
    "seconds": (Interval(second_precision=3), "interval(3)"),
    "pickle": (PickleType(), "bytea"),
    "pickle_of": (PickleType(impl=LargeBinary(10)), "bytea"),
    "range": (INT4RANGE(), "int4range"),
    "ranges": (INT4MULTIRANGE(), "int4multirange"),
    "words": (TSVECTOR(), "tsvector"),
    "data": (JSONB(none_as_null=True), "jsonb"),
}
"""Each type of a column, and how PostgreSQL names it."""

EXTENSIONS: dict[str, tuple[TypeEngine[Any], str]] = {
    "address": (CITEXT(), "citext"),
    "pairs": (HSTORE(), "hstore"),
}
"""Those that come with an extension."""
