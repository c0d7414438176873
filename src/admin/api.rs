//! Paths and their answers. A list exists once: the table in [`router`]; `docs/admin.md` explains it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::{
        Path, Query as Parameters, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::{
    Command, Denied, GuestChange, PATIENCE, Query, Reply,
    wire::{Done, Problem},
};
use crate::{config::Kafka, metrics::Metrics, topic};

/// Items of one page, unless the request says otherwise.
const PAGE: usize = 100;
/// The most that it may ask for.
const MAX_PAGE: usize = 1000;

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) draining: Arc<AtomicBool>,
}

/// A refusal in JSON.
struct Refusal(StatusCode, Problem);

type Answer<T> = Result<Json<T>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>, help: impl Into<String>) -> Self {
        Refusal(status, Problem { error: error.into(), help: help.into() })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, rejection.body_text(), "docs/admin.md lists the parameters of each path")
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, rejection.body_text(), "percent-encode what is not plain text in the path")
    }
}

/// All paths.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/clients/{id}", get(client).delete(kick))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", get(session).delete(end_session))
        .route("/api/v1/retained", get(retained))
        .route("/api/v1/retained/{*topic}", axum::routing::delete(forget_retained))
        .route("/api/v1/guests", get(guests))
        .route("/api/v1/guests/{name}/rollback", post(roll_back))
        .route("/api/v1/guests/{name}/promote", post(async |desk, name| change(desk, name, GuestChange::Promote).await))
        .route("/api/v1/guests/{name}/discard", post(async |desk, name| change(desk, name, GuestChange::Discard).await))
        .route("/api/v1/guests/{name}/reload", post(async |desk, name| change(desk, name, GuestChange::Reload).await))
        .route("/metrics", get(metrics))
        .route("/health", get(async || Json(Done { ok: true })))
        .route("/ready", get(ready))
        .fallback(async |uri: Uri| {
            let help = "GET /api/v1/clients, /api/v1/sessions, /api/v1/retained, /api/v1/guests, /metrics, /health or /ready";
            Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), help)
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method",
                "GET to look, DELETE to end or forget, POST to change a guest",
            )
        })
        .layer(middleware::from_fn(only_loopback))
        .with_state(desk)
}

/// Refuses requests that reach us under a name that is not this machine's own: a web page's script, by a name that its author controls.
async fn only_loopback(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback(host) {
        return next.run(request).await;
    }
    let help = "ask for http://127.0.0.1, http://[::1] or http://localhost with the port";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, format!("\"{host}\" is not this interface's name"), help).into_response()
}

fn is_loopback(host: &str) -> bool {
    let ends_with_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = ends_with_port.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParameters {
    after: Option<String>,
    limit: Option<usize>,
    prefix: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetainedParameters {
    after: Option<String>,
    limit: Option<usize>,
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickParameters {
    session: Option<bool>,
}

type Asked<T> = Result<Parameters<T>, QueryRejection>;
type Named = Result<Path<String>, PathRejection>;

impl ListParameters {
    fn query(self) -> Result<Query, Refusal> {
        Ok(Query {
            after: self.after.unwrap_or_default(),
            limit: limit(self.limit)?,
            prefix: self.prefix.unwrap_or_default(),
            username: self.username,
        })
    }
}

fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    let limit = asked.unwrap_or(PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    let help = "`next` of the answer is the next page's `after`";
    Err(Refusal::new(StatusCode::BAD_REQUEST, format!("limit = {limit} is not within 1 to {MAX_PAGE}"), help))
}

async fn clients(State(desk): State<Desk>, asked: Asked<ListParameters>) -> Answer<impl serde::Serialize> {
    let query = asked?.0.query()?;
    desk.ask(|reply| Command::Clients(query, reply)).await.map(Json)
}

async fn client(State(desk): State<Desk>, id: Named) -> Answer<impl serde::Serialize> {
    let Path(id) = id?;
    let found = desk.ask(|reply| Command::Client(id.clone(), reply)).await?;
    found.map(Json).ok_or_else(|| not_connected(&id))
}

async fn kick(State(desk): State<Desk>, id: Named, asked: Asked<KickParameters>) -> Answer<Done> {
    let (Path(client_id), end_session) = (id?, asked?.0.session.unwrap_or(false));
    let command = |reply| Command::Kick { client_id: client_id.clone(), end_session, reply };
    done(desk.ask(command).await?, || not_connected(&client_id))
}

async fn sessions(State(desk): State<Desk>, asked: Asked<ListParameters>) -> Answer<impl serde::Serialize> {
    let query = asked?.0.query()?;
    desk.ask(|reply| Command::Sessions(query, reply)).await.map(Json)
}

async fn session(State(desk): State<Desk>, id: Named) -> Answer<impl serde::Serialize> {
    let Path(id) = id?;
    let found = desk.ask(|reply| Command::Session(id.clone(), reply)).await?;
    found.map(Json).ok_or_else(|| no_session(&id))
}

async fn end_session(State(desk): State<Desk>, id: Named) -> Answer<Done> {
    let Path(id) = id?;
    done(desk.ask(|reply| Command::EndSession(id.clone(), reply)).await?, || no_session(&id))
}

async fn retained(State(desk): State<Desk>, asked: Asked<RetainedParameters>) -> Answer<impl serde::Serialize> {
    let RetainedParameters { after, limit: asked, filter } = asked?.0;
    let (filter, limit) = (filter.unwrap_or_else(|| "#".to_owned()), limit(asked)?);
    if let Err(error) = topic::check_filter(&filter) {
        let help = "an MQTT topic filter, for example devices/+/state, percent-encoded: # is %23, + is %2B";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("\"{filter}\" is no topic filter: {error}"), help));
    }
    let command = |reply| Command::Retained { filter, after: after.unwrap_or_default(), limit, reply };
    desk.ask(command).await.map(Json)
}

async fn forget_retained(State(desk): State<Desk>, name: Named) -> Answer<Done> {
    let Path(name) = name?;
    let missing = || {
        let help = "GET /api/v1/retained?filter=… lists what there is";
        Refusal::new(StatusCode::NOT_FOUND, format!("no message is retained on \"{name}\""), help)
    };
    done(desk.ask(|reply| Command::ForgetRetained(name.clone(), reply)).await?, missing)
}

async fn guests(State(desk): State<Desk>) -> Answer<impl serde::Serialize> {
    let items = desk.ask(Command::Guests).await?;
    Ok(Json(super::Page { items, next: None }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBackParameters {
    to: Option<String>,
}

async fn roll_back(desk: State<Desk>, name: Named, asked: Asked<RollBackParameters>) -> Answer<impl serde::Serialize> {
    let to = asked?.0.to;
    change(desk, name, GuestChange::RollBack(to)).await
}

async fn change(State(desk): State<Desk>, name: Named, change: GuestChange) -> Answer<super::Guest> {
    let Path(name) = name?;
    let changed = desk.ask(|reply| Command::ChangeGuest { name, change, reply }).await?;
    changed
        .map(Json)
        .map_err(|Denied { unknown, problem }| Refusal(if unknown { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT }, problem))
}

async fn metrics(State(desk): State<Desk>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], desk.metrics.render())
}

async fn ready(State(desk): State<Desk>) -> Answer<Done> {
    let refusal = if desk.draining.load(Ordering::Relaxed) {
        ("Hookgate is draining", "send devices to another one")
    } else if desk.metrics.kafka_reachable.get_or_create(&Kafka::DEFAULT.into()).get() == 0 {
        ("Kafka does not answer", "what devices publish waits and is not acknowledged; look at [kafka] bootstrap_servers and at Kafka")
    } else {
        return Ok(Json(Done { ok: true }));
    };
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, refusal.0, refusal.1))
}

fn not_connected(id: &str) -> Refusal {
    let help = "GET /api/v1/clients lists who is, /api/v1/sessions also who waits for its client";
    Refusal::new(StatusCode::NOT_FOUND, format!("no client \"{id}\" is connected"), help)
}

fn no_session(id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("client \"{id}\" has no session"), "GET /api/v1/sessions lists them")
}

fn done(ok: bool, otherwise: impl FnOnce() -> Refusal) -> Answer<Done> {
    if ok { Ok(Json(Done { ok })) } else { Err(otherwise()) }
}

impl Desk {
    /// Asks, and waits for the answer.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the broker has stopped", "start it again")),
            Err(_) => {
                let text = format!("no answer within {} s", PATIENCE.as_secs());
                Err(Refusal::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    text,
                    "what was asked for may still happen; /ready says whether Kafka holds it up",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_s_own_names() {
        for (host, expected) in [
            ("127.0.0.1:18083", true),
            ("127.0.0.1", true),
            ("[::1]:18083", true),
            ("localhost:1", true),
            ("LocalHost", true),
            ("evil.example:18083", false),
            ("10.0.0.1", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
