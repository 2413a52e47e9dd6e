"""What a hit means: pure functions and values.

No clock, no environment, no input or output: whatever is needed is passed in.
Imports nothing of this package but `errors`.
"""
