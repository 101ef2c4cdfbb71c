"""Measurements of graphopt, and the models they are made on. Not installed."""
