"""gunicorn's settings that all services share: the books are made before the workers are forked."""

import books

accesslog = None
loglevel = "warning"
# Tokens with large claims are longer than the usual 8,190.
limit_request_field_size = 32_768


def post_fork(server, worker):
    """Each worker has books of its own; a restarted one takes a slot that was not used."""
    books.open_slot(worker.age)
