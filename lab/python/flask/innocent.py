"""The routes without leaks; a variant replaces one of them."""

import zlib

from flask import jsonify, request

from auth import current_claims


def items_of(user):
    """The database's items of a user."""
    return {
        "user": user,
        "items": [{"id": number, "name": f"item {number} of {user}"} for number in range(1, 9)],
    }


def get_data():
    claims = current_claims()
    return jsonify(items_of(claims["sub"]))


def get_profile():
    claims = current_claims()
    return jsonify(sub=claims["sub"], email=claims["email"], roles=claims["roles"])


def post_upload():
    body = request.get_data()
    return jsonify(bytes=len(body), checksum=zlib.crc32(body)), 201


def health():
    return "ok"


def get_user(user_id):
    return jsonify(id=user_id, name=f"user {user_id}")
