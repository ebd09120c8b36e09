"""Where Django looks for the models of an app; ``django_pghistory`` makes them."""
