"""The Python library: what programs that send mail use. It imports nothing of the server.

transport (tries, time, refusals) over line (one connection); answers (what comes back);
api (the calls), with batches (of many emails); messages (emails of the standard library as bytes
and back); client (an api that tracks mail).
"""

from little_bell.client.answers import Created as Created
from little_bell.client.answers import Report as Report
from little_bell.client.answers import Rewritten as Rewritten
from little_bell.client.answers import Tracked as Tracked
from little_bell.client.client import Client as Client
