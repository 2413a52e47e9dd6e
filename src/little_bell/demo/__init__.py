"""`little-bell demo`: two months of invented mail in a throw-away database, and a server on it.

cast (who sends what, who reads it how), traffic (what becomes of it, by chance from a seed), fill
(into the store), live (a few hits a minute, over HTTP), run (the command). Nobody in it exists:
names are those of RFC 2606, addresses those of RFC 2544, RFC 3849 and RFC 5737.
"""
