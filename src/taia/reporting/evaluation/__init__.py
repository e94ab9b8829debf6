"""A run of ``taia eval``, for people: in the terminal, as a page, as text."""
