"""The timeline: pages that show what changed, for any web framework.

What a page shows, and how it is asked for, is decided here. The adapter of a framework,
such as ``sa_history.flask``, makes a ``PageRequest`` of its request, opens a session,
and sends the ``PageResponse`` that ``Pages.respond`` returns. Nothing here may import a
web framework, and all of it is sync: an ``AsyncSession`` runs it by ``run_sync``.
"""
