"""Experiments with names: each is a script that prints a table and writes its figures and plots."""
