"""Importing: emails, opens and clicks of long ago, from files and from the other Little Bell.

A file becomes rows (`texts`, `sources`), a row is checked (`rows`), all of them are spooled and
held against the database (`compare`), and only then written (`run`).
"""
