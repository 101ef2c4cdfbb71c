"""How each operator becomes instructions: one file a family."""
