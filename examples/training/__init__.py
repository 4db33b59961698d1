"""How the models of the examples are trained, measured and written; see ../README.md."""
