"""A Flask service whose variants leak or not in known ways; see lab/services.toml.

    VARIANT=token-cache gunicorn --chdir flask app:app
"""

import os
from typing import Any, Callable, NamedTuple, Optional

from flask import Flask, jsonify, request

import background
import bounded_caches
import books
import deep
import full_caches
import innocent
import per_request
import rare_paths
import token_caches
import transient


class Variant(NamedTuple):
    """A way of using memory."""

    data: Callable = innocent.get_data
    container: Any = None
    start: Optional[Callable] = None
    change: Optional[Callable] = None


VARIANTS = {
    "stateless": Variant(),
    "token-cache": Variant(token_caches.get_data, token_caches.claims_cache),
    "subject-cache": Variant(token_caches.get_data_by_subject, token_caches.subjects),
    "introspection-log": Variant(per_request.get_data_logged, per_request.introspection_log),
    "context-registry": Variant(per_request.get_data_registered, per_request.teardown_callbacks),
    "token-log": Variant(per_request.get_data_noted, per_request.recent_tokens),
    "cycles-no-gc": Variant(per_request.get_data_tree, None, per_request.switch_collector_off),
    "background": Variant(innocent.get_data, background.samples, background.start_collecting),
    "warm-up": Variant(background.get_data_warm, background.tables),
    "lru-1024": Variant(bounded_caches.get_data_lru, bounded_caches.lru_claims_for),
    "ttl": Variant(bounded_caches.get_data_timed, bounded_caches.timed, bounded_caches.start_sweeping),
    "ttl-batch": Variant(
        bounded_caches.get_data_timed, bounded_caches.timed, bounded_caches.start_clearing
    ),
    "request-state": Variant(transient.get_data_permitted),
    "pool": Variant(transient.get_data_pooled, transient.pool),
    "working-set": Variant(transient.get_data_slowly),
    "burst-retention": Variant(transient.get_data_report),
    "missing-path": Variant(container=rare_paths.not_found, change=rare_paths.keep_missing_paths),
    "error-report": Variant(container=rare_paths.error_reports, change=rare_paths.keep_errors),
    "one-in-20": Variant(rare_paths.get_data_one_in_20, rare_paths.slow_queries),
    "session-objects": Variant(deep.get_data_of_session, deep.sessions),
    "counters": Variant(deep.get_data_limited, deep.counters),
    "native-copies": Variant(deep.get_data_copied),
    "native-names": Variant(deep.get_data_named),
    "native-patterns": Variant(deep.get_data_checked),
    "native-cache": Variant(deep.get_data_checked_fast),
    "lru-5000-full": Variant(full_caches.get_data_lru, full_caches.first, full_caches.fill_lru),
    "two-caches-full": Variant(full_caches.get_data_two, full_caches.first, full_caches.fill_two),
    "ttl-300-full": Variant(full_caches.get_data_timed, full_caches.timed, full_caches.fill_timed),
    "gc-sawtooth": Variant(transient.get_data_document, None, transient.collect_rarely),
}

name = os.environ.get("VARIANT", "stateless")
variant = VARIANTS[name]

app = Flask(__name__)
app.add_url_rule("/api/data", "data", variant.data)
app.add_url_rule("/api/profile", "profile", innocent.get_profile)
app.add_url_rule("/api/upload", "upload", innocent.post_upload, methods=["POST"])
app.add_url_rule("/health", "health", innocent.health)
app.add_url_rule("/users/<int:user_id>", "user", innocent.get_user)

ENDPOINTS = ("data", "profile", "upload", "health", "user")  # in the order of books.ROUTES


@app.before_request
def count_request():
    if request.endpoint in ENDPOINTS:
        books.count(ENDPOINTS.index(request.endpoint), request.headers.get("Authorization"))


@app.teardown_request
def publish_entries(_error):
    books.publish(books.size_of(variant.container))


@app.get("/truth")
def truth():
    return jsonify(books.truth(name, variant.container))


if variant.change:
    variant.change(app)
if variant.start:
    variant.start()
