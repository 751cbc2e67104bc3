"""Settings as typed sections, and errors of one line; imports nothing of the other rooms."""
