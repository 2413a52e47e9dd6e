"""Pages for people, made in the slow lane. Templates escape everything by themselves."""
