//! An Axum service whose variants leak or not in known ways; see lab/services.toml.
//!
//! A library, so that there can be one program per allocator.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use clap::Parser;
use tokio::net::TcpListener;

mod auth;
mod handlers;
mod kept;
mod sizes;
mod truth;
mod variants;

/// The tokens, caches and counts, for services of other frameworks.
pub mod shared {
    pub use crate::auth::{Claims, decode};
    pub use crate::kept::Kept;
    pub use crate::truth::{Truth, note, with};
    pub use crate::variants::full_caches::{fill_lru, newest_claims_for};
    pub use crate::variants::token_caches::{claims_for, kept_by_token};
}

/// The service's settings.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How it uses the memory of its requests.
    #[arg(long, default_value = "stateless")]
    variant: String,
    /// Milliseconds that each handler awaits before it allocates, in place of a database.
    #[arg(long, default_value_t = 0)]
    await_ms: u64,
}

/// The handlers of the routes.
struct Service {
    data: MethodRouter,
    profile: MethodRouter,
    upload: MethodRouter,
    health: MethodRouter,
    user: MethodRouter,
    fallback: MethodRouter,
}

impl Service {
    /// Handlers that keep nothing.
    fn innocent() -> Self {
        Self {
            data: get(handlers::get_data),
            profile: get(handlers::get_profile),
            upload: post(handlers::post_upload),
            health: get(handlers::health),
            user: get(handlers::get_user),
            fallback: get(handlers::not_found),
        }
    }
}

static DATABASE_DELAY: OnceLock<Duration> = OnceLock::new();

/// Stands for a database query.
pub(crate) async fn query_database() {
    if let Some(delay) = DATABASE_DELAY.get() {
        tokio::time::sleep(*delay).await;
    }
}

/// Runs the service with its command line.
///
/// # Panics
///
/// If the runtime cannot be created.
#[tokio::main]
pub async fn serve() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.await_ms > 0 {
        DATABASE_DELAY.get_or_init(|| Duration::from_millis(arguments.await_ms));
    }
    let variant = variants::find(&arguments.variant)?;
    let service = (variant.routes)(Service::innocent());
    let app = Router::new()
        .route("/api/data", service.data)
        .route("/api/profile", service.profile)
        .route("/api/upload", service.upload)
        .route("/health", service.health)
        .route("/users/{id}", service.user)
        .fallback_service(service.fallback)
        .layer(middleware::from_fn(truth::count))
        .route(
            "/truth",
            get(move || async move { Json(truth::read(variant)) }),
        );

    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    println!("{} on http://{}", variant.name, listener.local_addr()?);
    axum::serve(listener, app)
        .await
        .context("the server stopped")
}
