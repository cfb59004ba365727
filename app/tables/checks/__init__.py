"""Checks: two numbers that must agree, and whether they do. `registry` lists them all."""
