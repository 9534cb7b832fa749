//! Caches that are as full at the start as they are after hours: by entries, by age, by bytes, two side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use crate::auth::{Claims, bearer, decode};
use crate::handlers::{Data, items_of};
use crate::{Service, query_database};

const MINUTES: Duration = Duration::from_secs(300);

/// Bounded by the sum of weights. The entries that were inserted first are evicted first.
struct Bounded<V> {
    values: HashMap<String, (V, usize)>,
    order: VecDeque<String>,
    weight: usize,
    most: usize,
}

impl<V: Clone> Bounded<V> {
    fn of_weight(most: usize) -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
            weight: 0,
            most,
        }
    }

    fn get(&self, key: &str) -> Option<V> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    fn put(&mut self, key: &str, value: V, weight: usize) {
        self.values.insert(key.to_owned(), (value, weight));
        self.order.push_back(key.to_owned());
        self.weight += weight;
        while self.weight > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some((_, weight)) = self.values.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

static LARGE: LazyLock<Mutex<Bounded<Claims>>> =
    LazyLock::new(|| Mutex::new(Bounded::of_weight(5_000)));
static SMALL: LazyLock<Mutex<Bounded<Claims>>> =
    LazyLock::new(|| Mutex::new(Bounded::of_weight(2_000)));
static ANSWERS: LazyLock<Mutex<Bounded<Vec<u8>>>> =
    LazyLock::new(|| Mutex::new(Bounded::of_weight(4 << 20)));
static AGED: LazyLock<Mutex<Aged>> = LazyLock::new(Mutex::default);

/// A cache whose entries expire.
#[derive(Default)]
struct Aged {
    claims: HashMap<String, Claims>,
    /// With the times of insertion, oldest first.
    order: VecDeque<(Instant, String)>,
}

/// A token of the past and its claims, as large as those of the load generator.
fn early(number: usize) -> (String, Claims) {
    let user = format!("user-{:08}", 90_000_000 + number);
    let claims = Claims {
        email: format!("{user}@lab.example"),
        jti: format!("00000000-{number:012x}"),
        sub: user,
        iss: "https://identity.lab.example".to_owned(),
        aud: "lab".to_owned(),
        scope: "openid profile email data:read data:write".to_owned(),
        roles: ["reader", "writer", "auditor"].map(str::to_owned).to_vec(),
        iat: 0,
        exp: 0,
        custom: HashMap::new(),
    };
    let token = format!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.{}.{number:043}",
        "c".repeat(350)
    );
    (token, claims)
}

pub(super) fn lru(innocent: Service) -> Service {
    fill_lru();
    Service {
        data: get(get_data_large),
        ..innocent
    }
}

/// Fills the cache of 5,000 entries.
///
/// # Panics
///
/// Never: no holder of its lock panics.
pub fn fill_lru() {
    for (token, claims) in (0..5_000).map(early) {
        LARGE
            .lock()
            .expect("no holder panics")
            .put(&token, claims, 1);
    }
}

/// The claims of a token, from the cache of 5,000 entries.
pub fn newest_claims_for(token: &str) -> Result<Claims, StatusCode> {
    bounded_claims_for(&LARGE, token)
}

async fn get_data_large(headers: HeaderMap) -> Result<Json<Data>, StatusCode> {
    query_database().await;
    let claims = newest_claims_for(bearer(&headers)?)?;
    Ok(Json(items_of(&claims.sub)))
}

fn bounded_claims_for(cache: &Mutex<Bounded<Claims>>, token: &str) -> Result<Claims, StatusCode> {
    let mut cache = cache.lock().expect("no holder panics");
    if let Some(claims) = cache.get(token) {
        return Ok(claims);
    }
    let claims = decode(token)?;
    cache.put(token, claims.clone(), 1);
    Ok(claims)
}

pub(super) fn two(innocent: Service) -> Service {
    // An answer has 273 bytes, so 15,364 of them fill the cache of answers.
    for (token, claims) in (0..16_000).map(early) {
        answer_for(&token, &claims);
        SMALL
            .lock()
            .expect("no holder panics")
            .put(&token, claims, 1);
    }
    Service {
        data: get(get_data_two),
        ..innocent
    }
}

async fn get_data_two(headers: HeaderMap) -> Result<Vec<u8>, StatusCode> {
    query_database().await;
    let token = bearer(&headers)?;
    let claims = bounded_claims_for(&SMALL, token)?;
    Ok(answer_for(token, &claims))
}

/// Rendered once per token; bounded by bytes.
fn answer_for(token: &str, claims: &Claims) -> Vec<u8> {
    let mut answers = ANSWERS.lock().expect("no holder panics");
    if let Some(answer) = answers.get(token) {
        return answer;
    }
    let answer = claims.sub.repeat(10 + token.len() % 60).into_bytes();
    answers.put(token, answer.clone(), answer.len());
    answer
}

pub(super) fn aged(innocent: Service) -> Service {
    let oldest = Instant::now().checked_sub(MINUTES);
    let mut cache = AGED.lock().expect("no holder panics");
    for number in 0..12_000 {
        let (token, claims) = early(number);
        let since = oldest.map(|oldest| oldest + Duration::from_millis(25 * number as u64));
        cache.claims.insert(token.clone(), claims);
        cache
            .order
            .push_back((since.unwrap_or_else(Instant::now), token));
    }
    drop(cache);
    Service {
        data: get(get_data_aged),
        ..innocent
    }
}

async fn get_data_aged(headers: HeaderMap) -> Result<Json<Data>, StatusCode> {
    query_database().await;
    let claims = aged_claims_for(bearer(&headers)?)?;
    Ok(Json(items_of(&claims.sub)))
}

fn aged_claims_for(token: &str) -> Result<Claims, StatusCode> {
    let mut cache = AGED.lock().expect("no holder panics");
    while cache
        .order
        .front()
        .is_some_and(|one| one.0.elapsed() > MINUTES)
    {
        if let Some((_, oldest)) = cache.order.pop_front() {
            cache.claims.remove(&oldest);
        }
    }
    if let Some(claims) = cache.claims.get(token) {
        return Ok(claims.clone());
    }
    let claims = decode(token)?;
    cache.claims.insert(token.to_owned(), claims.clone());
    cache.order.push_back((Instant::now(), token.to_owned()));
    Ok(claims)
}
