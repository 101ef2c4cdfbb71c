"""From a graph to a Program: shapes as expressions, operators as instructions over registers."""
