"""A service of Tornado: python with_tornado.py 8080"""

import json
import sys

import tornado.ioloop
import tornado.web

import claims


class Handler(tornado.web.RequestHandler):
    """Answers with what the route's function returns."""

    def initialize(self, respond):
        self.respond = respond

    def get(self, *parts):
        status, answer = self.respond(self.request, *parts)
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(answer))

    post = get


def route(path, respond):
    return (path, Handler, {"respond": respond})


app = tornado.web.Application(
    [
        route("/api/data", lambda request: claims.data(request.headers.get("Authorization"))),
        route("/api/profile", lambda request: claims.profile(request.headers.get("Authorization"))),
        route("/api/upload", lambda request: claims.upload(request.body)),
        route("/users/([0-9]+)", lambda _request, number: claims.user(number)),
        route("/health", lambda _request: claims.health()),
        route("/truth", lambda _request: claims.truth()),
    ],
    log_function=lambda _handler: None,
)
app.listen(int(sys.argv[1]), address="127.0.0.1")
tornado.ioloop.IOLoop.current().start()
