"""Accounts kept in rows: their keys as ciphertext, and how every process takes them up."""
