#!/usr/bin/env bash
# strawberry-sqlalchemy-mapper 0.9.0: an argument of its scalar BigInt arrives as a str.
#
# Expected: BigInt is NewType("BigInt", int), and "SQLAlchemy BigInteger columns are mapped to"
#   it: a resolver with an argument of BigInt gets an int.
# Seen: parse_value makes a str of it, for literals and for variables. So id == 5 is
#   false where a type checker takes both for integers.
# Who meets it: whoever has a query by the key of a BigInteger column. What helps is int(...).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet strawberry-sqlalchemy-mapper==0.9.0 \
    strawberry-graphql==0.341.2 SQLAlchemy==2.0.58
"$python" - <<'END'
import sys

import strawberry
from strawberry.schema.config import StrawberryConfig
from strawberry_sqlalchemy_mapper.scalars import (
    BigInt,
    strawberry_sqlalchemy_scalar_map,
)


@strawberry.type
class Query:
    @strawberry.field
    def what(self, id: BigInt) -> str:
        return repr(id)


config = StrawberryConfig(scalar_map=strawberry_sqlalchemy_scalar_map)
schema = strawberry.Schema(Query, config=config)
by_literal = schema.execute_sync("{ what(id: 5) }").data["what"]
query = "query ($id: BigInt!) { what(id: $id) }"
by_variable = schema.execute_sync(query, variable_values={"id": 5}).data["what"]
print("strawberry-sqlalchemy-mapper 0.9.0, an argument 5 of BigInt")
print("  expected: 5 by a literal, 5 by a variable")
print(f"  seen:     {by_literal} by a literal, {by_variable} by a variable")
if (by_literal, by_variable) != ("'5'", "'5'"):
    print("  that has changed")
    sys.exit(1)
END
