"""What definitions are written in: operations, conditions, columns, mapped tables."""
