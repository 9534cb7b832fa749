//! The service with actix-web: each worker thread has its own runtime.

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{Bytes, Path, PayloadConfig, get, post};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use lab_frameworks as service;

fn reply((status, json): service::Answer) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status)
        .content_type("application/json")
        .body(json)
}

fn authorization(request: &HttpRequest) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()
}

async fn data(request: HttpRequest) -> HttpResponse {
    reply(service::data(authorization(&request)))
}

async fn profile(request: HttpRequest) -> HttpResponse {
    reply(service::profile(authorization(&request)))
}

async fn upload(request: HttpRequest, body: Bytes) -> HttpResponse {
    reply(service::upload(authorization(&request), &body))
}

async fn user(request: HttpRequest, id: Path<u64>) -> HttpResponse {
    reply(service::user(authorization(&request), *id))
}

async fn health(request: HttpRequest) -> HttpResponse {
    reply(service::health(authorization(&request)))
}

async fn truth() -> HttpResponse {
    reply(service::truth())
}

fn main() -> anyhow::Result<()> {
    let address = service::begin()?;
    actix_web::rt::System::new().block_on(async {
        let app = || {
            App::new()
                .app_data(PayloadConfig::new(1 << 20))
                .route("/api/data", get().to(data))
                .route("/api/profile", get().to(profile))
                .route("/api/upload", post().to(upload))
                .route("/users/{id}", get().to(user))
                .route("/health", get().to(health))
                .route("/truth", get().to(truth))
        };
        Ok(HttpServer::new(app).workers(2).bind(address)?.run().await?)
    })
}
