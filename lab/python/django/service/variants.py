"""The variants by name; lab/services.toml has their known answers."""

from typing import Any, Callable, NamedTuple, Optional

from django.conf import settings

from service import bounded, leaking, views
from service.authentication import CachedJWTAuthentication


class Variant(NamedTuple):
    """A way of using memory."""

    data: Callable = views.data
    container: Any = None
    start: Optional[Callable] = None


CACHED = Variant(leaking.data_cached, CachedJWTAuthentication.claims_by_token)
TIMED = Variant(bounded.data_timed, bounded.TimedAuthentication.seen)

VARIANTS = {
    "stateless": Variant(),
    "token-cache": CACHED,
    "big-claims": CACHED,
    "subject-cache": Variant(leaking.data_by_subject, leaking.directory._profiles),
    "introspection-log": Variant(leaking.data_logged, leaking.introspection.entries),
    "background": Variant(views.data, leaking.collector.samples, leaking.collector.start),
    "lru-1024": Variant(bounded.data_lru, bounded.LruAuthentication.recent),
    "ttl": TIMED._replace(start=bounded.start_sweeping),
    "ttl-batch": TIMED._replace(start=bounded.start_clearing),
    "request-state": Variant(bounded.data_permitted),
    "pool": Variant(bounded.data_pooled, bounded.buffers.free),
    "warm-up": Variant(bounded.data_warm, bounded.loader.tables),
    "working-set": Variant(bounded.data_slowly),
    "burst-retention": Variant(bounded.data_report),
    "gc-sawtooth": Variant(bounded.data_document, None, bounded.collect_rarely),
}

name = settings.VARIANT
variant = VARIANTS[name]
if variant.start:
    variant.start()
