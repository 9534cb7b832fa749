//! The service with Rocket.

// Rocket passes what it has read from a request by value.
#![expect(clippy::needless_pass_by_value)]

use anyhow::Context as _;
use lab_frameworks as service;
use rocket::config::{Config, LogLevel};
use rocket::data::ToByteUnit as _;
use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome};
use rocket::{Data, Request, get, post, routes};

/// The header of that name.
struct Authorization(Option<String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Authorization {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let value = request.headers().get_one("Authorization");
        Outcome::Success(Self(value.map(str::to_owned)))
    }
}

type Reply = (Status, (ContentType, String));

fn reply((status, json): service::Answer) -> Reply {
    (Status::new(status), (ContentType::JSON, json))
}

#[get("/api/data")]
fn data(authorization: Authorization) -> Reply {
    reply(service::data(authorization.0.as_deref()))
}

#[get("/api/profile")]
fn profile(authorization: Authorization) -> Reply {
    reply(service::profile(authorization.0.as_deref()))
}

#[post("/api/upload", data = "<body>")]
async fn upload(authorization: Authorization, body: Data<'_>) -> std::io::Result<Reply> {
    let body = body.open(1.mebibytes()).into_bytes().await?;
    Ok(reply(service::upload(authorization.0.as_deref(), &body)))
}

#[get("/users/<id>")]
fn user(authorization: Authorization, id: u64) -> Reply {
    reply(service::user(authorization.0.as_deref(), id))
}

#[get("/health")]
fn health(authorization: Authorization) -> Reply {
    reply(service::health(authorization.0.as_deref()))
}

#[get("/truth")]
fn truth() -> Reply {
    reply(service::truth())
}

#[rocket::main]
async fn main() -> anyhow::Result<()> {
    let listen = service::begin()?;
    let config = Config {
        address: listen.ip(),
        port: listen.port(),
        log_level: LogLevel::Off,
        ..Config::release_default()
    };
    let all = routes![data, profile, upload, user, health, truth];
    let ended = rocket::custom(config).mount("/", all).launch().await;
    ended.map(drop).context("the server stopped")
}
