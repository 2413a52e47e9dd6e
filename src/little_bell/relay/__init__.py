"""The SMTP relay, a process of its own: mail comes in, is tracked, and goes on to the upstream.

It keeps nothing: each answer to a client is the upstream's own, or says that there was none (4xx).
Beside `wire` it alone knows sockets; it asks the bell by HTTP and reads keys from the file.
"""
