"""A WSGI application without a framework, for waitress, gevent and gunicorn's workers.

python wsgi.py waitress 8080
"""

import json
import sys
from http import HTTPStatus

import claims


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, answer = claims.respond(
        environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_AUTHORIZATION"), body
    )
    text = json.dumps(answer).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [text]


if __name__ == "__main__":
    server, port = sys.argv[1], int(sys.argv[2])
    if server == "waitress":
        import waitress

        waitress.serve(app, host="127.0.0.1", port=port, threads=8)
    else:
        from gevent.pywsgi import WSGIServer

        WSGIServer(("127.0.0.1", port), app, log=None).serve_forever()
