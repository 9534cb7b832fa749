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
        status, answer = self.respond(self.request, self.request.headers.get("Authorization"), *parts)
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(answer))

    post = get


def route(path, respond):
    return (path, Handler, {"respond": respond})


app = tornado.web.Application(
    [
        route("/api/data", lambda _request, token: claims.data(token)),
        route("/api/profile", lambda _request, token: claims.profile(token)),
        route("/api/upload", lambda request, token: claims.upload(request.body, token)),
        route("/users/([0-9]+)", lambda _request, token, number: claims.user(number, token)),
        route("/health", lambda _request, token: claims.health(token)),
        route("/truth", lambda _request, _token: claims.truth()),
    ],
    log_function=lambda _handler: None,
)
app.listen(int(sys.argv[1]), address="127.0.0.1")
tornado.ioloop.IOLoop.current().start()
