"""A Django application that reads and writes tables which SQLAlchemy has made."""
