"""Sockets, HTTP and the two lanes. Only this folder knows sockets.

The fast lane is one loop whose every turn (a tick) is one commit; what may take 10 ms is handed
over, socket and all, to the slow lane: a second process.
"""
