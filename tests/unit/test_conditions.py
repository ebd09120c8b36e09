"""Conditions become SQL over ``OLD`` and ``NEW``, or an error that says why not."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ColumnElement,
    Computed,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    all_,
    and_,
    any_,
    case,
    func,
    literal,
    not_,
    or_,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from sa_history import (
    AllChange,
    AllDontChange,
    AnyChange,
    AnyDontChange,
    new,
    old,
)
from sa_history._types import Operation
from sa_history.definition.binding import RowScope, changed, condition_sql
from sa_history.definition.columns import TableColumns
from sa_history.exc import ConditionError
from sa_history.sql.expressions import expression_sql


class Size(Integer):
    """A type with an attribute of its own."""

    class Comparator(Integer.Comparator[int]):
        @property
        def is_large(self) -> ColumnElement[bool]:
            return self.expr > 9

        @property
        def is_odd(self) -> ColumnElement[bool]:
            raise NotImplementedError("a size is not odd")

    comparator_factory = Comparator


class UpperCase(TypeDecorator[str]):
    """A type whose values have an expression around them."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> ColumnElement[str]:
        return func.upper(bindparam)


@pytest.fixture
def scope() -> RowScope:
    """An update of a table, of which a tracker stores three columns."""
    table = Table(
        "note",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("the size", Size),
        Column("title", String),
        Column("data", JSON),
        Column("tags", ARRAY(Integer)),
        Column("code", UpperCase),
        Column("area", Integer, Computed("id * 2", persisted=True)),
        Column("Twice", Integer, Computed("id * 2", persisted=False)),
    )
    columns = dict(table.columns)
    columns["size"] = columns.pop("the size")
    virtual = {"double": columns.pop("Twice")}
    return RowScope(
        "Note",
        TableColumns("Note", table, columns, virtual, key=("id",)),
        ("id", "size", "title"),
        Operation.UPDATE,
        frozenset(["area"]),
    )


ID = "OLD.id IS DISTINCT FROM NEW.id"
SIZE = 'OLD."the size" IS DISTINCT FROM NEW."the size"'
TITLE = "OLD.title IS DISTINCT FROM NEW.title"
DATA = "pg_catalog.record_image_ne(row(OLD.data), row(NEW.data))"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(new.id < old.id, "NEW.id < OLD.id", id="rows"),
        pytest.param(new["size"] == 1, 'NEW."the size" = 1', id="by_name"),
        pytest.param(10 - new.id > 1, "10 - NEW.id > 1", id="value_on_the_left"),
        pytest.param(new.id.in_([1, old.id]), "NEW.id IN (1, OLD.id)", id="in_list"),
        pytest.param(new.id.in_((1, old.id)), "NEW.id IN (1, OLD.id)", id="in_tuple"),
        pytest.param(
            new.title.like(old.title, escape="/"),
            "NEW.title LIKE OLD.title ESCAPE '/'",
            id="option",
        ),
        pytest.param(
            new.data["a"].astext == "x", "(NEW.data ->> 'a') = 'x'", id="attribute"
        ),
        pytest.param(new.size.is_large, 'NEW."the size" > 9', id="attribute_alone"),
        pytest.param(
            new.data["a"].as_integer() == 1,
            "CAST((NEW.data ->> 'a') AS INTEGER) = 1",
            id="method",
        ),
        pytest.param(
            (new.id > 1) == (old.id > 1), "(NEW.id > 1) = (OLD.id > 1)", id="two"
        ),
        pytest.param(
            new.tags.overlap(old.tags), "NEW.tags && OLD.tags", id="condition_given"
        ),
        pytest.param(
            new.tags.overlap(other=old.tags), "NEW.tags && OLD.tags", id="given_by_name"
        ),
        pytest.param(
            func.lower(new.title) == func.lower(old.title),
            "lower(NEW.title) = lower(OLD.title)",
            id="function_of_sql",
        ),
        pytest.param(
            case((new.id > 1, old.id), else_=0) > 0,
            "CASE WHEN NEW.id > 1 THEN OLD.id ELSE 0 END > 0",
            id="case",
        ),
        pytest.param(
            tuple_(new.id, new.size) == tuple_(old.id, old.size),
            '(NEW.id, NEW."the size") = (OLD.id, OLD."the size")',
            id="tuple",
        ),
        pytest.param(
            (AnyChange("id") & ~(new.id == 1)) | (old.id == 2),
            f"{ID} AND NEW.id != 1 OR OLD.id = 2",
            id="combined",
        ),
        pytest.param(
            or_(new.id == 1, old.id == 2), "NEW.id = 1 OR OLD.id = 2", id="or_"
        ),
        pytest.param(text("NEW.id > 1"), "NEW.id > 1", id="text"),
        pytest.param(lambda old, new: new.id > old["id"], "NEW.id > OLD.id", id="call"),
        pytest.param(
            lambda old, new: AnyChange("id"), ID, id="call_that_returns_a_change"
        ),
        pytest.param(lambda old, new: True, "true", id="call_that_returns_true"),
        pytest.param(lambda old, new: False, "false", id="call_that_returns_false"),
        pytest.param(AnyChange(), f"{ID} OR {SIZE} OR {TITLE}", id="any"),
        pytest.param(AnyChange("data"), DATA, id="any_by_image"),
        pytest.param(AnyChange("data", "id"), f"{DATA} OR {ID}", id="any_mixed"),
        pytest.param(AnyChange(exclude=["size"]), f"{ID} OR {TITLE}", id="any_but"),
        pytest.param(AllChange(), f"{ID} AND {SIZE} AND {TITLE}", id="all"),
        pytest.param(
            AllChange(exclude=("id", "data")), f"{SIZE} AND {TITLE}", id="all_but"
        ),
        pytest.param(
            AnyDontChange("id", "size"), f"NOT ({ID} AND {SIZE})", id="any_not"
        ),
        pytest.param(
            AllDontChange("id", "size"), f"NOT ({ID} OR {SIZE})", id="all_not"
        ),
    ],
)
def test_a_condition_is_written_over_the_rows_of_the_trigger(
    scope: RowScope, condition: Any, expected: str
) -> None:
    assert condition_sql(condition, scope) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(
            and_(new.id == 1, (new.size > 1) | (new.size < 0)),
            'NEW.id = 1 AND (NEW."the size" > 1 OR NEW."the size" < 0)',
            id="or_in_and",
        ),
        pytest.param(
            and_(new.id == 1, AnyChange("size", "title")),
            f"NEW.id = 1 AND ({SIZE} OR {TITLE})",
            id="change_in_and",
        ),
        pytest.param(
            or_(new.id == 1, (new.size > 1) & (new.size < 9)),
            'NEW.id = 1 OR NEW."the size" > 1 AND NEW."the size" < 9',
            id="and_in_or",
        ),
        pytest.param(
            not_((new.id == 1) & (new.size > 1)),
            'NOT (NEW.id = 1 AND NEW."the size" > 1)',
            id="not",
        ),
        pytest.param(
            func.abs(new.id) - (old.id - new.id) < 0,
            "abs(NEW.id) - (OLD.id - NEW.id) < 0",
            id="difference",
        ),
        pytest.param(
            func.lower(new.title) + new.title == func.lower(old.title) + "x",
            "(lower(NEW.title) || NEW.title) = (lower(OLD.title) || 'x')",
            id="sum_of_texts",
        ),
        pytest.param(
            func.abs(new.id) + (new.id + 1) > 0,
            "abs(NEW.id) + NEW.id + 1 > 0",
            id="sum",
        ),
        pytest.param(
            func.abs(new.id).between(old.id, new.id) == (new.size > 1),
            '(abs(NEW.id) BETWEEN OLD.id AND NEW.id) = (NEW."the size" > 1)',
            id="comparison",
        ),
        pytest.param(
            func.abs(new.id).in_([new.id + 1, old.id]),
            "abs(NEW.id) IN (NEW.id + 1, OLD.id)",
            id="list",
        ),
        pytest.param(
            case((and_(new.id == 1, (new.id > 1) | (new.id < 0)), 1), else_=0) > 0,
            "CASE WHEN (NEW.id = 1 AND (NEW.id > 1 OR NEW.id < 0)) THEN 1 ELSE 0 END"
            " > 0",
            id="case",
        ),
        pytest.param(
            func.abs(new.id) == any_(new.tags + old.tags),
            "abs(NEW.id) = ANY (NEW.tags || OLD.tags)",
            id="any",
        ),
        pytest.param(
            func.lower(new.title) + new.title + old.title == "x",
            "(lower(NEW.title) || NEW.title || OLD.title) = 'x'",
            id="sum_of_three_texts",
        ),
        pytest.param(
            func.abs(new.id) + new.id + old.id > 0,
            "abs(NEW.id) + NEW.id + OLD.id > 0",
            id="sum_of_three",
        ),
    ],
)
def test_a_condition_inside_of_an_expression_keeps_its_parentheses(
    scope: RowScope, condition: Any, expected: str
) -> None:
    assert condition_sql(condition, scope) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(
            not_(func.abs(new.id) < all_(new.tags)),
            "NOT (abs(NEW.id) < ALL (NEW.tags))",
            id="all",
        ),
        pytest.param(
            ~(func.abs(new.id) == any_(new.tags)),
            "NOT (abs(NEW.id) = ANY (NEW.tags))",
            id="any",
        ),
        pytest.param(
            not_(literal(1) != new.tags.any_()),
            "NOT (1 != ANY (NEW.tags))",
            id="literal",
        ),
        pytest.param(
            not_(func.lower(new.title).like(any_(new.tags))),
            "NOT (lower(NEW.title) LIKE ANY (NEW.tags))",
            id="like",
        ),
        pytest.param(
            not_(func.abs(new.id) == all_(new.tags + old.tags)),
            "NOT (abs(NEW.id) = ALL (NEW.tags || OLD.tags))",
            id="of_a_sum",
        ),
    ],
)
def test_the_opposite_of_a_comparison_with_any_or_all_of_a_list_is_its_negation(
    scope: RowScope, condition: Any, expected: str
) -> None:
    assert condition_sql(condition, scope) == expected


def test_a_value_is_a_literal_in_functions_that_are_compiled_in_their_own_way(
    scope: RowScope,
) -> None:
    # SQLAlchemy 2.1 forgets there to write literals.
    assert condition_sql(func.pow(new.id, 2) > 4, scope).endswith("(NEW.id, 2) > 4")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(new.code == "a", "NEW.code = upper('a')", id="one"),
        pytest.param(
            new.code.in_(["a", "b"]),
            "NEW.code IN (upper('a'), upper('b'))",
            id="list",
        ),
        pytest.param(
            ~new.code.in_(["a"]), "(NEW.code NOT IN (upper('a')))", id="not_in_list"
        ),
    ],
)
def test_a_value_has_the_expression_of_its_type_around_it(
    scope: RowScope, condition: Any, expected: str
) -> None:
    assert condition_sql(condition, scope) == expected


@pytest.mark.parametrize("word", ["begin", "by", "case", "if", "loop", "strict"])
def test_a_column_with_the_name_of_a_word_of_functions_is_quoted(word: str) -> None:
    table = Table("meeting", MetaData(), Column(word, Integer, primary_key=True))
    columns = TableColumns("Meeting", table, dict(table.columns), {}, key=(word,))
    scope = RowScope("Meeting", columns, (word,), Operation.UPDATE)
    expected = f'OLD."{word}" IS DISTINCT FROM NEW."{word}"'
    assert condition_sql(AnyChange(), scope) == expected
    assert condition_sql(new[word] > 1, scope) == f'NEW."{word}" > 1'


def test_a_condition_looks_at_a_column_that_the_table_got_later(
    scope: RowScope,
) -> None:
    assert condition_sql(new.id > 1, scope) == "NEW.id > 1"
    late = Column("late", Integer)
    scope.columns.table.append_column(late)
    by_attribute = {**scope.columns.by_attribute, "late": late}
    columns = dataclasses.replace(scope.columns, by_attribute=by_attribute)
    wider = dataclasses.replace(scope, columns=columns)
    assert condition_sql(new.late > new.id, wider) == "NEW.late > NEW.id"
    assert condition_sql(lambda _, new: new.late > new.id, wider) == "NEW.late > NEW.id"


def test_columns_can_be_compared_without_an_operator_that_a_path_could_replace(
    scope: RowScope,
) -> None:
    image = DATA.replace("data", "id")
    assert expression_sql(changed(scope, "id", by_image=True)) == image
    assert expression_sql(changed(scope, "id")) == ID


def test_a_generated_column_has_a_value_in_the_old_row_alone(scope: RowScope) -> None:
    assert condition_sql(old.area > 1, scope) == "OLD.area > 1"
    for condition in (new.area > 1, AnyChange("area"), AllChange("area")):
        with pytest.raises(ConditionError, match="^Note: new.area is generated, and"):
            condition_sql(condition, scope)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (new.double > 1, "new.double"),
        (old.double > 1, "old.double"),
        (lambda old, new: new.double > 1, "new.double"),
        (AnyChange("double"), "old.double"),
        (text('NEW."Twice" > 1'), "new.Twice"),
        (text("old . \"Twice\" > 1 AND note = '--'"), "old.Twice"),
        (text('("new")."Twice" > 1'), "new.Twice"),
        (and_(new.id > 1, text('NEW."Twice" > 1')), "new.Twice"),
    ],
)
def test_a_generated_column_that_is_not_stored_has_no_value_in_a_trigger(
    scope: RowScope, condition: Any, named: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        condition_sql(condition, scope)
    assert str(caught.value) == (
        f"Note: a condition uses {named}, but the generated column 'Twice' is not "
        "stored, so it has no value in a trigger; use the columns it is made of, or "
        "have it stored: Computed(..., persisted=True)"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "NEW.twice > 1",  # folds to lower case, and so is another column
        'renew."Twice" > 1',
        "NEW.title = 'NEW.\"Twice\"'",
        "NEW.title = E'\\' NEW.\"Twice\"'",
        'NEW.title = $a$ NEW."Twice" $a$',
        'NEW.id > 1 /* NEW."Twice" */',
        'NEW.id > 1 -- NEW."Twice"',
        'NEW."a NEW.Twice" > 1',
    ],
)
def test_what_only_looks_like_a_column_is_none(scope: RowScope, sql: str) -> None:
    assert condition_sql(text(sql.replace(":", "\\:")), scope) == sql


@pytest.mark.parametrize(
    ("operation", "row"),
    [(Operation.INSERT, "old"), (Operation.DELETE, "new")],
    ids=["insert", "delete"],
)
def test_a_change_needs_both_rows(
    scope: RowScope, operation: Operation, row: str
) -> None:
    other = dataclasses.replace(scope, operation=operation)
    wrong = f"^Note: a condition on {operation.value} uses {row}.id, but there is no"
    for condition in (AnyChange("id"), AllChange("id"), lambda *_: AnyChange("id")):
        with pytest.raises(ConditionError, match=wrong):
            condition_sql(condition, other)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        pytest.param(
            AnyChange("id", "data", "tilte"),
            "Note has no column attribute 'tilte' for old.tilte; did you mean 'title'? "
            "it has id, title, data, tags, code, area, size",
            id="any",
        ),
        pytest.param(
            AllChange(exclude=["data", "tilte"]),
            "Note has no column attribute 'tilte' for new.tilte; did you mean 'title'? "
            "it has id, title, data, tags, code, area, size",
            id="exclude",
        ),
        pytest.param(
            AnyChange(exclude=["id", "size", "title"]),
            "Note: AnyChange(exclude=['id', 'size', 'title']) leaves no column to look "
            "at; name some",
            id="none_left",
        ),
    ],
)
def test_a_condition_that_cannot_be_written(
    scope: RowScope, condition: Any, message: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        condition_sql(condition, scope)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "condition",
    [
        new.size.is_odd,
        new.tags.nonsense(1),
        new.tags.overlap(),
        new.id == object(),
        lambda old: True,
        text("NEW.id > :x"),
    ],
    ids=["attribute", "method", "arguments", "value", "call", "parameter"],
)
def test_what_has_no_sql_is_said_with_a_way_out(
    scope: RowScope, condition: Any
) -> None:
    wrong = "^Note: the condition .* cannot be written as SQL: .*; write that part with"
    with pytest.raises(ConditionError, match=wrong):
        condition_sql(condition, scope)


def test_a_text_that_postgresql_cannot_store_is_no_condition(scope: RowScope) -> None:
    wrong = r"""cannot contain NUL, got "NEW.title = 'a\\x00'"; remove it; write that"""
    with pytest.raises(ConditionError, match=wrong):
        condition_sql(text("NEW.title = 'a\0'"), scope)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (),
            {"exclude": "id"},
            r"^exclude is a list of names, got 'id'; write \['id'\]$",
        ),
        (
            (new.id,),
            {},
            r'takes attribute names, got new.id; write AllChange\("name"\)',
        ),
        ((), {"exclude": ["id", 5]}, "takes attribute names, got 5"),
        (("id",), {"exclude": ["size"]}, "AllChange got both names and exclude"),
    ],
    ids=["text_to_exclude", "column", "number_to_exclude", "both"],
)
def test_a_change_is_of_attributes_or_of_all_but_some(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConditionError, match=message):
        AllChange(*arguments, **options)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (new, "new"),
        (old["the size"], "old.the size"),
        (10 - new.id < old.id, "lt(sub(10, new.id), old.id)"),
        (new.tags.overlap([1]), "new.tags.overlap(...)"),
        (AnyChange("id", "size"), "AnyChange('id', 'size')"),
        (AllDontChange(exclude=("id",)), "AllDontChange(exclude=['id'])"),
    ],
    ids=["row", "column", "operators", "method", "names", "exclude"],
)
def test_a_condition_prints_what_was_written(condition: Any, expected: str) -> None:
    assert repr(condition) == expected
    assert repr(copy.deepcopy(condition)) == expected


@pytest.mark.parametrize(
    "condition",
    [new.id, new.id > 1, new.data["a"].astext, new.tags.overlap([1])],
    ids=["column", "operator", "attribute", "call"],
)
def test_a_condition_stays_as_it_was_written(condition: Any) -> None:
    """Many classes may have it, as that of a mixin."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(condition, dataclasses.fields(condition)[0].name, "other")


def test_a_column_has_no_private_attributes_and_no_members(scope: RowScope) -> None:
    """Python and SQLAlchemy look for some, and must not be told that they are there."""
    assert not hasattr(new.id, "_selectable")
    assert not hasattr(new, "__wrapped__")
    inside = condition_sql(lambda old, new: hasattr(new, "__wrapped__"), scope)
    assert inside == "false"
    with pytest.raises(TypeError, match="^new.tags is not a list$"):
        list(new.tags)
