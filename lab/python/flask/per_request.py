"""Leaks of every request, with any token."""

import gc
import json

from flask import g, jsonify

from auth import bearer, current_claims, decode
from innocent import items_of

introspection_log = []
teardown_callbacks = []
recent_tokens = []


def log_response(claims, data):
    """Debugging code that was never removed: the last responses, never trimmed."""
    introspection_log.append(json.dumps({"active": True, "claims": claims, "data": data}))


def get_data_logged():
    claims = current_claims()
    data = items_of(claims["sub"])
    log_response(claims, data)
    return jsonify(data)


def register_teardown(claims, data):
    """Registered for the end of the process instead of the request."""

    def finish():
        return claims["sub"], len(data["items"])

    teardown_callbacks.append(finish)


def get_data_registered():
    g.claims = current_claims()
    data = items_of(g.claims["sub"])
    register_teardown(g.claims, data)
    return jsonify(data)


def note_token(token):
    """The last tokens for the status page; old ones are never dropped."""
    recent_tokens.append(token)


def get_data_noted():
    token = bearer()
    claims = decode(token)
    note_token(token)
    return jsonify(items_of(claims["sub"]))


class Node:
    """A node with a reference to its parent: a cycle that only the collector frees."""

    def __init__(self, name, parent=None):
        self.name = name
        self.parent = parent
        self.children = []
        if parent is not None:
            parent.children.append(self)


def build_tree(data):
    root = Node(data["user"])
    for item in data["items"]:
        Node(item["name"], root)
    return root


def get_data_tree():
    """The collector is disabled for latency."""
    data = items_of(current_claims()["sub"])
    tree = build_tree(data)
    return jsonify(user=tree.name, items=[{"name": child.name} for child in tree.children])


def switch_collector_off():
    gc.disable()
