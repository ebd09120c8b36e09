"""The peers, one a module, each set up as its own documentation tells."""
