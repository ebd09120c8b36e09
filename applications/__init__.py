"""Applications from the package index whose whole history is kept.

Each module, beside what they share in ``life``, is an application as its users install
it. All of its tables are tracked, from outside; its own functions change them; and what
the events say is compared with what the tables have. ``nox -s applications`` installs
each into an environment of its own and runs it at both levels.

They are no part of the ordinary tests: their versions are pinned, and what is found
here gets a test there that does not need the application.
"""
