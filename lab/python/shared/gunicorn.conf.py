"""gunicorn's settings that all services share: the books are made before the workers are forked."""

import books

accesslog = None
loglevel = "warning"


def post_fork(server, worker):
    """Each worker has books of its own; a restarted one takes a slot that was not used."""
    books.open_slot(worker.age)
