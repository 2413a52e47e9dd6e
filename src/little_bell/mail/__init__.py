"""Email as it is sent: links and a pixel go in, and no other byte changes.

Pure functions: they know neither store nor network. Whatever fails leaves the original as it was,
and the report says so.
"""
