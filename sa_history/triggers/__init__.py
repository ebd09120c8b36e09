"""Ready triggers: values of :mod:`sa_history.ddl`, made for a table."""
