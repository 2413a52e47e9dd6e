"""What is stored: one SQLite file, one writer, figures beside the log.

Only this folder knows SQL and the driver. Statements live in `sql/`, under a name and a purpose.
The tenant is the first argument of whatever reads or writes for one; the rest is `unscoped_`.
"""
