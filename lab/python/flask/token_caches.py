"""Caches of claims that are never evicted."""

from flask import jsonify

from auth import bearer, current_claims, decode
from innocent import items_of

claims_cache = {}
subjects = {}


def claims_for(token):
    """Decoding is slow, so it is done once per token."""
    claims = claims_cache.get(token)
    if claims is None:
        claims = decode(token)
        claims_cache[token] = claims
    return claims


def get_data():
    claims = claims_for(bearer())
    return jsonify(items_of(claims["sub"]))


def remember_subject(claims):
    if claims["sub"] not in subjects:
        subjects[claims["sub"]] = claims


def get_data_by_subject():
    claims = current_claims()
    remember_subject(claims)
    return jsonify(items_of(claims["sub"]))
