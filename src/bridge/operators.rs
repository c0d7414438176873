//! Answers what operators ask: the admin interface's commands, put to the broker and to whoever changes guests.

mod guests;

use std::sync::{Arc, Weak};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    admin::{self, Command, Page, Query},
    event::{Message, Subscription},
    source::mqtt::{Inspector, Part, SessionView, Wanted},
};

use super::works::Works;

/// Commands answered at the same time.
const AT_ONCE: usize = 8;
/// Larger payloads of retained messages are not shown, bytes.
const MAX_PAYLOAD_BYTES: usize = 1024;

/// Answers until the interface is closed.
pub(super) async fn answer(mut commands: mpsc::Receiver<Command>, broker: Inspector, works: Weak<Works>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(command) = commands.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (broker, works) = (broker.clone(), works.clone());
        tokio::spawn(async move {
            match command {
                Command::Guests(reply) => drop(reply.send(guests::list(&works).await)),
                Command::ChangeGuest { name, change, reply } => drop(reply.send(guests::change(&works, &name, change).await)),
                Command::Kick { client_id, end_session, reply } => {
                    tracing::info!(client_id, end_session, "an operator ends a connection");
                    let _ = reply.send(broker.kick(&client_id, end_session).await); // an error: whoever asked is gone
                }
                Command::EndSession(client_id, reply) => {
                    tracing::info!(client_id, "an operator ends a session");
                    let _ = reply.send(broker.end_session(&client_id).await);
                }
                look => {
                    // Lists are sorted and may be long; a thread of the runtime must not be held up.
                    let _ = tokio::task::spawn_blocking(move || show(look, &broker)).await;
                }
            }
            drop(place);
        });
    }
}

fn show(command: Command, broker: &Inspector) {
    match command {
        Command::Clients(query, reply) => drop(reply.send(list(broker, &query, true, client, |client| &client.client_id))),
        Command::Client(id, reply) => {
            let found = broker.session(&id).filter(|(view, _)| view.online);
            let _ = reply.send(found.map(|(view, _)| client(&view)));
        }
        Command::Sessions(query, reply) => drop(reply.send(list(broker, &query, false, session, |session| &session.client_id))),
        Command::Session(id, reply) => {
            let found = broker.session(&id);
            let detail = |(view, held): (SessionView, Vec<Subscription>)| admin::SessionDetail {
                session: session(&view),
                filters: held.iter().map(subscription).collect(),
            };
            let _ = reply.send(found.map(detail));
        }
        Command::Retained { filter, after, limit, reply } => {
            let (found, more) = broker.retained(&filter, &Part { after, limit });
            let items: Vec<admin::Retained> = found.iter().map(|message| retained(message)).collect();
            let next = items.last().filter(|_| more).map(|last| last.topic.clone());
            let _ = reply.send(Page { items, next });
        }
        Command::ForgetRetained(topic, reply) => {
            tracing::info!(topic, "an operator has a retained message forgotten");
            let _ = reply.send(broker.forget_retained(&topic));
        }
        Command::Kick { .. } | Command::EndSession(..) | Command::Guests(..) | Command::ChangeGuest { .. } => {} // answered by `answer`
    }
}

fn list<T>(broker: &Inspector, query: &Query, online: bool, item: impl Fn(&SessionView) -> T, key: impl Fn(&T) -> &String) -> Page<T> {
    let wanted = Wanted { online, prefix: query.prefix.clone(), username: query.username.clone() };
    let (found, more) = broker.sessions(&wanted, &Part { after: query.after.clone(), limit: query.limit });
    let items: Vec<T> = found.iter().map(item).collect();
    let next = items.last().filter(|_| more).map(|last| key(last).clone());
    Page { items, next }
}

fn client(view: &SessionView) -> admin::Client {
    let client = &view.client;
    admin::Client {
        client_id: client.client_id.to_string(),
        username: client.username.as_ref().map(ToString::to_string),
        peer: client.peer.to_string(),
        protocol_version: client.protocol_version,
        certificate_name: client.certificate_name.as_ref().map(ToString::to_string),
        connected_at: client.connected_at_ms,
        clean_start: view.clean_start,
        keep_alive_s: view.keep_alive_s,
        session: figures(view),
    }
}

fn session(view: &SessionView) -> admin::Session {
    admin::Session {
        client_id: view.client.client_id.to_string(),
        username: view.client.username.as_ref().map(ToString::to_string),
        connected: view.online,
        ends_in_s: view.ends_in_s,
        figures: figures(view),
    }
}

fn figures(view: &SessionView) -> admin::Figures {
    admin::Figures {
        session_expiry_s: view.expiry_s,
        subscriptions: view.subscriptions,
        queued_messages: view.queued_messages,
        queued_bytes: view.queued_bytes,
        in_flight: view.in_flight,
        unanswered: view.unanswered,
    }
}

fn subscription(of: &Subscription) -> admin::Subscription {
    admin::Subscription {
        filter: of.filter.to_string(),
        qos: of.qos.level(),
        no_local: of.no_local,
        retain_as_published: of.retain_as_published,
    }
}

fn retained(message: &Message) -> admin::Retained {
    let payload = &message.payload;
    admin::Retained {
        topic: message.topic.to_string(),
        qos: message.qos.level(),
        publisher: message.publisher.to_string(),
        received_at: message.received_at_ms,
        expiry_s: message.properties.as_ref().and_then(|properties| properties.expiry_s),
        payload_bytes: payload.len(),
        payload: (payload.len() <= MAX_PAYLOAD_BYTES).then(|| BASE64_STANDARD.encode(payload)),
    }
}
