//! The service with warp.

use lab_frameworks as service;
use warp::Filter;
use warp::http::{Response, StatusCode};

fn reply((status, json): service::Answer) -> Response<String> {
    let mut response = Response::new(json);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = service::begin()?;
    let authorization = || warp::header::optional::<String>("authorization");
    let data = warp::path!("api" / "data")
        .and(warp::get())
        .and(authorization())
        .map(|value: Option<String>| reply(service::data(value.as_deref())));
    let profile = warp::path!("api" / "profile")
        .and(warp::get())
        .and(authorization())
        .map(|value: Option<String>| reply(service::profile(value.as_deref())));
    let upload = warp::path!("api" / "upload")
        .and(warp::post())
        .and(authorization())
        .and(warp::body::bytes())
        .map(|value: Option<String>, body: warp::hyper::body::Bytes| {
            reply(service::upload(value.as_deref(), &body))
        });
    let user = warp::path!("users" / u64)
        .and(warp::get())
        .and(authorization())
        .map(|id, value: Option<String>| reply(service::user(value.as_deref(), id)));
    let health = warp::path!("health")
        .and(authorization())
        .map(|value: Option<String>| reply(service::health(value.as_deref())));
    let truth = warp::path!("truth").map(|| reply(service::truth()));
    let routes = data.or(profile).or(upload).or(user).or(health).or(truth);
    warp::serve(routes).run(address).await;
    Ok(())
}
