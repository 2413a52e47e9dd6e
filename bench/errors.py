"""What can keep a section from being measured."""


class NotMeasuredError(Exception):
    """Something is missing here; the text says what. The other sections go on."""
