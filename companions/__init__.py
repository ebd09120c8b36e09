"""Packages, tools and servers that people use beside this library, each one run.

``table`` says which, in which versions, and what was seen; each has a module
``test_NAME`` and a section of ``docs/companions.md``, whose blocks that module runs.
``nox -s companions`` installs each into an environment of its own.

They are no part of the ordinary tests, as their versions are pinned: what is found
here gets a test there that does not need them. The ordinary tests only compare the
table with the page and the modules.
"""
