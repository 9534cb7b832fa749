"""Leaks of requests that few people look at: unknown paths, exceptions, one call in many."""

import itertools

from flask import jsonify, request

from auth import bearer, current_claims, decode
from innocent import items_of

not_found = {}
error_reports = []
slow_queries = []
calls = itertools.count()


def remember_missing(path):
    """A negative cache of paths, which scanners fill."""
    not_found[path] = {"path": path, "agent": request.headers.get("User-Agent"), "hint": "no such report: " + path * 8}


def answer_missing(_error):
    remember_missing(request.path)
    return jsonify(error="not found"), 404


def keep_missing_paths(app):
    app.register_error_handler(404, answer_missing)


class NoProfile(Exception):
    """The request has no valid token."""


def keep_report(error):
    """Reports for a collector that was never configured. Each keeps the frames of its traceback alive."""
    error_reports.append((request.path, error))


def answer_error(error):
    keep_report(error)
    return jsonify(error=str(error)), 500


def profile_or_error():
    if "Authorization" not in request.headers:
        page = ["profile of nobody"] * 100
        raise NoProfile(page[0])
    return jsonify(sub=decode(bearer())["sub"])


def keep_errors(app):
    app.register_error_handler(NoProfile, answer_error)
    app.view_functions["profile"] = profile_or_error


def log_slow_query(claims, data):
    """Every 20th query is slow."""
    if next(calls) % 20 == 0:
        slow_queries.append((claims, data))


def get_data_one_in_20():
    claims = current_claims()
    data = items_of(claims["sub"])
    log_slow_query(claims, data)
    return jsonify(data)
