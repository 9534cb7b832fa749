//! The service with hyper 0.14 and no router.

use std::convert::Infallible;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Method, Request, Response, Server};
use lab_frameworks as service;

async fn handle(request: Request<Body>) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let header = parts.headers.get(AUTHORIZATION);
    let authorization = header.and_then(|value| value.to_str().ok());
    let (status, json) = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/api/data") => service::data(authorization),
        (&Method::GET, "/api/profile") => service::profile(authorization),
        (&Method::POST, "/api/upload") => {
            service::upload(authorization, &hyper::body::to_bytes(body).await?)
        }
        (&Method::GET, "/health") => service::health(authorization),
        (&Method::GET, "/truth") => service::truth(),
        (&Method::GET, path) => match path.strip_prefix("/users/").map(str::parse) {
            Some(Ok(id)) => service::user(authorization, id),
            _ => (404, String::new()),
        },
        _ => (404, String::new()),
    };
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status.try_into().unwrap_or_default();
    let json = "application/json".try_into();
    response
        .headers_mut()
        .extend(json.map(|json| (CONTENT_TYPE, json)));
    Ok(response)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = service::begin()?;
    let make = make_service_fn(|_| async { Ok::<_, Infallible>(service_fn(handle)) });
    Ok(Server::bind(&address).serve(make).await?)
}
