//! What a guest implements.

use crate::{
    Action, Answer, Client, Context, Credentials, Detail, DownlinkVerdict, EnhancedVerdict, EventVerdict, Exchange, Fault, Fetched, Message,
    PublishVerdict,
};

/// A guest: made once in every fresh instance, and once when it is deployed, as the trial that can refuse a bad version.
pub trait Guest: Sized + 'static {
    /// Hooks wanted, by name (`"session.subscribed"`); empty: all that the exported interfaces can take.
    const HOOKS: &'static [&'static str] = &[];
    /// Settings without which the host need not even try.
    const REQUIRED_SETTINGS: &'static [&'static str] = &[];

    /// Reads the settings.
    ///
    /// # Errors
    /// What is wrong and what to write instead: the person who deploys reads it, and what ran before keeps running.
    fn start() -> Result<Self, String>;
}

/// Serves `message.publish`: before retain, routing, Kafka and the acknowledgement.
pub trait Publish: Guest {
    /// Judges one message; what it answers is what everybody sees.
    ///
    /// # Errors
    /// It cannot judge: the route's `on_failure` decides. The instance lives on.
    fn handle(&self, context: &Context, client: &Client, message: Message) -> Result<PublishVerdict, Fault>;
}

/// Serves `client.authenticate` and `client.authorize`.
pub trait Access: Guest {
    /// May this client come in? Not mine to say, unless the guest implements it.
    ///
    /// # Errors
    /// It cannot judge: the route's `on_failure` decides.
    fn authenticate(&self, _context: &Context, _client: &Client, _credentials: Credentials) -> Result<Answer, Fault> {
        Ok(Answer::Abstain)
    }

    /// May it publish or subscribe here? Not mine to say, unless the guest implements it.
    ///
    /// # Errors
    /// It cannot judge: the route's `on_failure` decides.
    fn authorize(&self, _context: &Context, _client: &Client, _action: Action, _topic: String) -> Result<Answer, Fault> {
        Ok(Answer::Abstain)
    }
}

/// Serves `client.authenticate` for clients that name an authentication method (MQTT 5, section 4.12), beside [`Access`].
pub trait EnhancedAccess: Access {
    /// Takes what the client sent, and challenges, allows or denies it. `exchange.memo` is what it gave along with its last challenge.
    ///
    /// # Errors
    /// It cannot judge: the route's `on_failure` decides.
    fn step(&self, context: &Context, client: &Client, exchange: Exchange) -> Result<EnhancedVerdict, Fault>;
}

/// Serves the sixteen hooks that say what happened; the verdict shapes what goes to Kafka.
pub trait Events: Guest {
    /// Looks at one event.
    ///
    /// # Errors
    /// It cannot say: the route's `on_failure` decides.
    fn handle(&self, context: &Context, client: &Client, detail: Detail) -> Result<EventVerdict, Fault>;
}

/// Serves downlinks: records that come from Kafka and become MQTT messages.
pub trait Downlink: Guest {
    /// Judges one record. `messages` is what would be published now: by the downlink's templates, or as the guest before left it. A record
    /// that was not settled before a failure comes again: its topic, partition and offset say that it is the same, `context.id` does not.
    ///
    /// # Errors
    /// It cannot judge: the downlink's `on_failure` decides.
    fn handle(&self, context: &Context, downlink: &str, fetched: Fetched, messages: Vec<Message>) -> Result<DownlinkVerdict, Fault>;
}
