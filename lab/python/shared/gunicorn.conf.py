"""Common gunicorn settings: the counters are created before the workers are forked."""

import books

accesslog = None
loglevel = "warning"
# Tokens with large claims are longer than the usual 8,190.
limit_request_field_size = 32_768


def post_fork(server, worker):
    """Each worker has its own counters; a restarted one takes an unused slot."""
    books.open_slot(worker.age)
