//! How the records of a route reach Kafka, and when the device is told: `cluster`, `ack`, `delivery`, `max_in_flight`, `on_refusal`.

use super::{kafka::Kafka, problem::Placed, reader::Table};
use crate::hook::{Hook, Kind};

/// How the records of a route leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The cluster's name; [`Kafka::DEFAULT`] when the route names none.
    pub cluster: Placed<String>,
    /// When the device is told, or the event counts as safe.
    pub ack: Ack,
    /// How often a message may become a record.
    pub guarantee: Guarantee,
    /// Records of one key that may be unconfirmed at once; `Some(1)` is strict order, `None` as many as there is room for.
    pub max_in_flight: Option<usize>,
    /// What becomes of a record that Kafka refuses for good.
    pub on_refusal: OnRefusal,
}

/// When the device is told; for events that nobody waits for, when they are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// After Kafka's acknowledgement.
    Kafka,
    /// After the record is on this machine's disk, in the spool.
    Spool,
    /// At once.
    None,
}

/// How often one message may become a record of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Again after a failure whose outcome nobody knows; `event-id` tells consumers.
    AtLeastOnce,
    /// Once, also over the client's repetitions and the death of the process.
    ExactlyOnce,
}

/// What becomes of a record that Kafka refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// The publisher is told, if there is one; it is counted and logged.
    Report,
    /// The record goes to the cluster's dead letter topic with the reason, and its publisher is told that it is stored.
    DeadLetter,
}

impl Delivery {
    /// As safe as Kafka makes it, and nothing more: how dead letters of downlinks leave.
    pub(super) fn plain(cluster: Placed<String>) -> Self {
        Delivery { cluster, ack: Ack::Kafka, guarantee: Guarantee::AtLeastOnce, max_in_flight: None, on_refusal: OnRefusal::Report }
    }

    /// `has_spool`: there is a `data_dir`; `is_produced`: the route names a topic.
    pub(super) fn read(table: &mut Table<'_>, hook: Option<Hook>, is_produced: bool, has_spool: bool) -> Self {
        let cluster = table.text("cluster");
        let ack = table.choice("ack", &[("kafka", Ack::Kafka), ("spool", Ack::Spool), ("none", Ack::None)]);
        let guarantees = [("at-least-once", Guarantee::AtLeastOnce), ("exactly-once", Guarantee::ExactlyOnce)];
        let guarantee = table.choice("delivery", &guarantees);
        let max_in_flight = table.placed("max_in_flight");
        let in_flight = table.integer("max_in_flight", 1..=1_000_000, 1) as usize;
        let on_refusal = table.choice("on_refusal", &[("report", OnRefusal::Report), ("dead-letter", OnRefusal::DeadLetter)]);
        let is_publish = hook.is_none_or(|hook| hook.kind() == Kind::Publish);
        if !is_produced {
            let places = [
                ("cluster", cluster.as_ref().map(|it| &it.place)),
                ("ack", ack.as_ref().map(|it| &it.place)),
                ("delivery", guarantee.as_ref().map(|it| &it.place)),
                ("max_in_flight", max_in_flight.as_ref()),
                ("on_refusal", on_refusal.as_ref().map(|it| &it.place)),
            ];
            for (setting, place) in places {
                if let Some(place) = place {
                    table.refuse_at(place, setting, " does nothing without a topic", "name the Kafka topic");
                }
            }
        }
        match &ack {
            Some(Placed { value: Ack::Spool, place }) if !has_spool => {
                let help = "write data_dir = \"data\" in [node]";
                table.refuse_at(place, "ack", " = \"spool\" needs a folder for it", help);
            }
            Some(Placed { value: Ack::None, place }) if !is_publish && is_produced => {
                let help = "remove it; ack = \"spool\" keeps such events over the death of the process";
                table.refuse_at(place, "ack", " = \"none\" does nothing here: nobody waits for an acknowledgement", help);
            }
            _ => {}
        }
        if let Some(Placed { value: Guarantee::ExactlyOnce, place }) = &guarantee {
            if !is_publish {
                let message = " = \"exactly-once\": only what a client publishes can be told apart from its repetition";
                table.refuse_at(place, "delivery", message, "remove it; `event-id` lets consumers leave repetitions out");
            } else if !has_spool {
                let message = " = \"exactly-once\" needs a folder that outlives the process";
                table.refuse_at(place, "delivery", message, "write data_dir = \"data\" in [node]");
            }
            if let Some(place) = &max_in_flight {
                let help = "remove it; transactions keep the order of arrival by themselves";
                table.refuse_at(place, "max_in_flight", " does nothing with delivery = \"exactly-once\"", help);
            }
            if ack.as_ref().is_some_and(|ack| ack.value != Ack::Kafka) {
                let message = " = \"exactly-once\" needs ack = \"kafka\": only Kafka's answer says that it is stored once";
                table.refuse_at(place, "delivery", message, "remove `ack`");
            }
        }
        let default = if is_publish || !has_spool { Ack::Kafka } else { Ack::Spool };
        let is_spooled = ack.as_ref().map_or(default, |ack| ack.value) == Ack::Spool;
        if is_spooled && is_produced {
            if let Some(place) = &max_in_flight {
                let message = " does nothing with ack = \"spool\": what is in the spool leaves it in order";
                table.refuse_at(place, "max_in_flight", message, "remove it, or write ack = \"kafka\"");
            }
            if let Some(Placed { value: OnRefusal::Report, place }) = &on_refusal {
                let message = " = \"report\" with ack = \"spool\": when Kafka refuses the record, its publisher has been told already";
                table.refuse_at(place, "on_refusal", message, "remove it: it becomes a dead letter");
            }
        }
        let here = || Placed { value: Kafka::DEFAULT.to_owned(), place: table.place().clone() };
        Delivery {
            cluster: cluster.unwrap_or_else(here),
            ack: ack.map_or(default, |ack| ack.value),
            guarantee: guarantee.map_or(Guarantee::AtLeastOnce, |guarantee| guarantee.value),
            max_in_flight: max_in_flight.map(|_| in_flight),
            on_refusal: on_refusal.map_or(if is_spooled { OnRefusal::DeadLetter } else { OnRefusal::Report }, |given| given.value),
        }
    }
}
