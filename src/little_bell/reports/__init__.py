"""Reports: what pages and the API say alike of periods, events, emails and figures.

Imports store and tracking only; no settings, no SQL, no headers.
"""
