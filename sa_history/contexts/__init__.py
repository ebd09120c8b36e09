"""Who makes a change and why: context blocks, and how they travel to the database.

Nothing here knows tracked models or triggers, so all of it can be tested without one.
"""
