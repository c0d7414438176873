//! `hookgate.toml`: read once into checked types; after that nobody checks again. One file per table.
//!
//! Everything that is wrong is found in one run and named with file, line, column and advice. Unknown keys are refused, and so is a
//! setting that would do nothing. Checks that need more than the file (does the guest export what its route needs?) belong to the
//! floors above and use the same [`Problem`].

mod access;
mod acl;
mod admin;
mod breaker;
mod capture;
mod delivery;
mod downlink;
mod field;
mod guest;
mod kafka;
mod key;
mod limits;
mod listener;
mod mqtt;
mod network;
mod problem;
mod reader;
mod record;
mod redis;
mod rollout;
mod route;
mod runtime;
mod secret;
mod spool;
mod store;
mod template;
mod tenant;
mod tls;

use std::{cell::RefCell, path::Path, sync::Arc};

pub use self::redis::Redis; // apart: a crate has the name too
use self::{
    access::Around,
    reader::{Reader, Table},
};
pub use self::{
    access::{Access, Authenticator, Authorizer},
    acl::{Pattern, PatternError, Permission, Rule, RuleAction},
    admin::Admin,
    breaker::Breaker,
    capture::Capture,
    delivery::{Ack, Delivery, Guarantee, OnRefusal},
    downlink::{Downlink, MessageTemplate, OnUnfit, RecordField, RecordPart, RecordText, RecordTextError, Start, UserProperties},
    field::Field,
    guest::{Grant, Guest, Isolation, StateBackend},
    kafka::{Bootstrap, Credentials, Gssapi, Identity, Kafka, KafkaTls, NewTopics, OauthBearer, Pem, Sasl, Tuning},
    key::{Key, KeyKind},
    limits::Limits,
    listener::{DoorProtocol, Listener},
    mqtt::{DeniedPublish, MOST_TOPIC_LEVELS, Mqtt, SharedStrategy},
    network::{Network, NetworkError},
    problem::{Place, Placed, Problem, nearest},
    record::{Format, PartitionRule, PayloadEncoding, RecordTemplate, TimestampRule, is_kafka_topic},
    rollout::{Canary, Rollout, Shadow, Trial},
    route::{OnFailure, Retry, Route},
    runtime::Runtime,
    secret::Secret,
    spool::{OnDamage, Spool, WhenFull},
    store::{Store, SyncPolicy},
    template::{Part, Template, TemplateError},
    tenant::{Ceilings, Tenant},
    tls::{ClientCertificates, Tls, TlsVersion},
};
use crate::hook::Hook;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[node]`: this process's name in records and logs.
    pub node: String,
    /// `[node] data_dir` and `[store]`; without it everything lives in memory only.
    pub store: Option<Store>,
    /// `[[listener]]`
    pub listeners: Vec<Listener>,
    /// `[mqtt]`
    pub mqtt: Mqtt,
    /// `[admin]`; without the table there is no admin interface.
    pub admin: Option<Admin>,
    /// `[kafka]`
    pub kafka: Kafka,
    /// `[[cluster]]`: others, by name.
    pub clusters: Vec<Kafka>,
    /// `[node] data_dir` and `[spool]`.
    pub spool: Option<Spool>,
    /// `[access]` and `[[acl]]`
    pub access: Access,
    /// `[[key]]`
    pub keys: Vec<Key>,
    /// `[guests]`
    pub runtime: Runtime,
    /// `[redis]`
    pub redis: Option<Redis>,
    /// `[[tenant]]`
    pub tenants: Vec<Tenant>,
    /// `[[guest]]`
    pub guests: Vec<Guest>,
    /// `[[route]]`, in order.
    pub routes: Vec<Route>,
    /// `[[downlink]]`
    pub downlinks: Vec<Downlink>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem of the file, in the order of their places.
    pub fn load(file: &Path) -> Result<Self, Vec<Problem>> {
        let (config, problems) = Self::inspect(file)?;
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads a file as far as it can be read, with every problem found, so that further checks can look at the rest.
    ///
    /// # Errors
    /// The file cannot be read at all.
    pub fn inspect(file: &Path) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let place = Place { file: Arc::new(file.to_owned()), line: 1, column: 1 };
        let bytes = std::fs::read(file).map_err(|error| {
            vec![Problem::new(&place, format!("cannot be read: {error}")).help("name a configuration with --config FILE")]
        })?;
        let text = String::from_utf8(bytes).map_err(|error| vec![Problem::new(&place, format!("is not UTF-8: {error}"))])?;
        Ok(Self::parse(file, &text))
    }

    /// Checks the text of a file; relative paths in it start at the file's folder. What cannot be read is left out or at its default.
    pub fn parse(file: &Path, text: &str) -> (Self, Vec<Problem>) {
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        Reader::new(file.to_owned(), text).read(|table| Self::read(table, &folder))
    }

    fn read(table: &mut Table<'_>, folder: &Path) -> Self {
        let (guest_names, key_names) = (Names::default(), Names::default());
        let (node, data_dir) = table.table("node", |node| (node.text("name"), node.text("data_dir"))).unwrap_or_default();
        let data_dir = data_dir.map(|data_dir| folder.join(data_dir.value));
        let store = Store::read(table, data_dir.clone());
        let spool = Spool::read(table, data_dir.clone());
        let data_dir = data_dir.as_deref();
        let mqtt = table.table("mqtt", Mqtt::read).unwrap_or_default();
        let listeners = table.tables("listener", |listener| Listener::read(listener, folder, &mqtt));
        let admin = table.table("admin", Admin::read).flatten();
        let kafka = table.table("kafka", |kafka| Kafka::read(kafka, folder)).flatten();
        let cluster_names = Names::default();
        let clusters = table.tables("cluster", |cluster| cluster_names.note(cluster, "cluster").and(Kafka::read_named(cluster, folder)));
        let keys = table.tables("key", |key| key_names.note(key, "key").and(Key::read(key, folder)));
        let redis = table.table("redis", Redis::read).flatten();
        let runtime = table.table("guests", |guests| Runtime::read(guests, data_dir)).unwrap_or_else(|| Runtime::new(data_dir));
        let around = guest::Around { folder, has_data_dir: data_dir.is_some(), has_redis: table.placed("redis").is_some() };
        let guests = table.tables("guest", |guest| guest_names.note(guest, "guest").and(Guest::read(guest, around)));
        let routes = table.tables("route", |route| Route::read(route, route::Around { folder, data_dir }));
        let node = node.map_or_else(|| "hookgate".to_owned(), |node| node.value);
        let downlink_names = Names::default();
        let downlinks = table.tables("downlink", |downlink| Downlink::read(downlink, &downlink_names, &node));
        Downlink::check_groups(table, &downlinks);
        let tenants = Self::read_tenants(table, &guests);
        let access = Self::read_access(table, &routes, folder);
        table.require("listener", "a table: [[listener]] bind = \"0.0.0.0:1883\"");
        table.require("kafka", "a table: [kafka] bootstrap_servers = \"embedded\" or \"host:9092\"");
        if let Some(place) = table.empty_list("listener") {
            table.refuse_value(&place, "listener is empty: no device could connect", "write [[listener]] with bind = \"0.0.0.0:1883\"");
        }
        for (index, listener) in listeners.iter().enumerate() {
            if listeners.iter().take(index).any(|other| other.name == listener.name) {
                let message = format!("a second listener is named \"{}\", after its protocol or by `name`", listener.name);
                table.refuse_value(&listener.bind.place, message, "names are unique: write name = \"…\"");
            }
        }
        guests.iter().flat_map(|guest| &guest.keys).for_each(|key| key_names.expect(table, key, "key"));
        if let (Some(place), false) = (table.placed("redis"), guests.iter().any(|guest| guest.state == StateBackend::Redis)) {
            table.refuse_value(
                &place,
                "[redis] does nothing: no guest keeps its state there",
                "give a guest state = { backend = \"redis\" }",
            );
        }
        let asked = routes.iter().flat_map(|route| &route.guests).chain(downlinks.iter().flat_map(|downlink| &downlink.guests));
        asked.for_each(|guest| guest_names.expect(table, guest, "guest"));
        let named = routes.iter().map(|route| &route.delivery).chain(downlinks.iter().map(|downlink| &downlink.delivery));
        for cluster in named.map(|delivery| &delivery.cluster).filter(|cluster| cluster.value != Kafka::DEFAULT) {
            cluster_names.expect(table, cluster, "cluster");
        }
        if let Some(cluster) = clusters.iter().find(|cluster| cluster.name == Kafka::DEFAULT) {
            table.refuse_value(&cluster.place.place, "a cluster named \"kafka\" is the one of [kafka]", "give it another name");
        }
        let kafka = kafka.unwrap_or_else(|| Kafka::embedded(table.place().clone()));
        Self::check_once(table, &routes, std::iter::once(&kafka).chain(&clusters));
        Config {
            node,
            store,
            listeners,
            mqtt,
            admin,
            kafka,
            clusters,
            spool,
            access,
            keys,
            runtime,
            redis,
            tenants,
            guests,
            routes,
            downlinks,
        }
    }

    /// Every cluster, that of `[kafka]` first.
    pub fn all_clusters(&self) -> impl Iterator<Item = &Kafka> {
        std::iter::once(&self.kafka).chain(&self.clusters)
    }

    /// What works, and should not be so.
    pub fn warnings(&self) -> Vec<Problem> {
        self.all_clusters().flat_map(Kafka::warnings).collect()
    }

    /// Exactly once needs transactions, which need more of a cluster than other routes do.
    fn check_once<'a>(table: &Table<'_>, routes: &[Route], clusters: impl Iterator<Item = &'a Kafka>) {
        for cluster in clusters {
            let mut once = routes.iter().filter(|route| route.delivery.guarantee == Guarantee::ExactlyOnce);
            let Some(route) = once.find(|route| route.delivery.cluster.value == cluster.name) else { continue };
            if cluster.bootstrap == Bootstrap::Embedded {
                let message = "delivery = \"exactly-once\" needs a real Kafka: the embedded one forgets everything with the process";
                table.refuse_value(&route.place.place, message, "write bootstrap_servers = \"host:9092\", or remove `delivery`");
            } else if cluster.acks != "all" {
                let message = format!("delivery = \"exactly-once\" needs acks = \"all\" of the cluster \"{}\"", cluster.name);
                table.refuse_value(&route.place.place, message, "remove `acks`, or `delivery`");
            }
        }
    }

    fn read_tenants(table: &Table<'_>, guests: &[Guest]) -> Vec<Tenant> {
        let names = Names::default();
        let tenants = table.tables("tenant", Tenant::read);
        for tenant in &tenants {
            names.add(table, &tenant.id, "tenant");
            tenant.check(table, guests);
        }
        guests.iter().filter_map(|guest| guest.tenant.as_ref()).for_each(|tenant| names.expect(table, tenant, "tenant"));
        tenants
    }

    fn read_access(table: &Table<'_>, routes: &[Route], folder: &Path) -> Access {
        let rules = table.tables("acl", Rule::read);
        let asks = |hook| routes.iter().any(|route| route.hook == hook && !route.guests.is_empty());
        let around = Around {
            authenticating_guests: asks(Hook::ClientAuthenticate),
            authorizing_guests: asks(Hook::ClientAuthorize),
            rules: table.place_of("acl").is_some() && table.empty_list("acl").is_none(),
        };
        let access = table.table("access", |access| Access::read(access, around, folder));
        Access { rules, ..access.unwrap_or_else(|| Access::without_table(around)) }
    }
}

/// The names that tables of one kind gave themselves, those of faulty tables too.
#[derive(Default)]
struct Names(RefCell<Vec<String>>);

impl Names {
    /// Notes a table's name; a second one of the same name is refused.
    fn note(&self, table: &Table<'_>, what: &str) -> Option<()> {
        if let Some(name) = table.text("name") {
            self.add(table, &name, what);
        }
        Some(())
    }

    fn add(&self, table: &Table<'_>, name: &Placed<String>, what: &str) {
        let mut names = self.0.borrow_mut();
        if names.contains(&name.value) {
            table.refuse_at(&name.place, "name", format_args!(": a second {what} is named \"{}\"", name.value), "names are unique");
        }
        names.push(name.value.clone());
    }

    /// Refuses a name that no table has.
    fn expect(&self, table: &Table<'_>, name: &Placed<String>, what: &str) {
        let names = self.0.borrow();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        if !known.contains(&name.value.as_str()) {
            let add = || format!("add a [[{what}]] with this name");
            let help = nearest(&name.value, known.iter().copied()).map_or_else(add, |near| format!("did you mean `{near}`?"));
            table.refuse_value(&name.place, format_args!("there is no {what} \"{}\"", name.value), help);
        }
    }
}

#[cfg(test)]
mod tests;
