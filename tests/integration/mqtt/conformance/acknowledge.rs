//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use super::place::{Place, properties_after, property};
use crate::mqtt::wire::{Connect, Packet, Wire};

/// Publishes, at `qos`, to where somebody listens, to nobody, and to where clients must not.
async fn answers(place: &Place, wire: &mut Wire, qos: u8) -> Vec<Packet> {
    let mut found = Vec::new();
    for (id, topic) in [(1, place.topic("t")), (2, place.topic("nobody")), (3, "$SYS/x".to_owned())] {
        wire.publish(qos << 1, id, topic, "x").await;
        let answer = wire.receive().await;
        if qos == 2 && answer.body.get(2).is_none_or(|code| *code < 0x80) {
            wire.ack(6, id).await;
            wire.expect_ack(7, id, 0).await;
        }
        found.push(answer);
    }
    found
}

const PUBLISH_CODES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

async fn publish_codes(place: &Place, qos: u8) {
    let (mut publisher, subscriber) = place.pair("t", 0).await;
    let codes: Vec<u8> = answers(place, &mut publisher, qos).await.iter().map(|packet| packet.body.get(2).copied().unwrap_or(0)).collect();
    assert!(codes.iter().all(|code| PUBLISH_CODES.contains(code)), "{codes:x?}");
    assert!(codes[0] < 0x80 && codes[2] >= 0x80, "{codes:x?}");
    drop(subscriber);
}

pub(super) async fn puback_codes(place: Place) {
    publish_codes(&place, 1).await;
}

pub(super) async fn pubrec_codes(place: Place) {
    publish_codes(&place, 2).await;
}

async fn acknowledgements_fit(place: &Place, qos: u8) {
    let mut explained = 0;
    for maximum in [20_u8, 30, 60, 250] {
        let limit = Connect { properties: vec![0x27, 0, 0, 0, maximum], ..place.connect("small") };
        let mut wire = Wire::open(place).await;
        wire.speak(place.level);
        wire.send(&limit.bytes()).await;
        let connack = wire.receive().await;
        if connack.body[1] != 0 {
            continue; // CONNACK itself would not fit
        }
        for answer in answers(place, &mut wire, qos).await {
            assert!(answer.size() <= maximum.into(), "{answer:x?}");
            let found = properties_after(&answer, 3);
            assert_eq!(property(&found, 0x26), None, "no user properties");
            explained += usize::from(property(&found, 0x1F).is_some());
        }
    }
    assert!(explained > 0, "where there is room, the reason is said");
}

pub(super) async fn pubacks_fit(place: Place) {
    acknowledgements_fit(&place, 1).await;
}

pub(super) async fn pubrecs_fit(place: Place) {
    acknowledgements_fit(&place, 2).await;
}

/// PUBREL (6) that answers PUBREC, or PUBCOMP (7) that answers PUBREL: known and unknown identifiers.
async fn second_halves(place: &Place, kind: u8) -> Vec<Packet> {
    let given = vec![0x27, 0, 0, 0, 50];
    let mut wire = Wire::connect(place, Connect { properties: given, ..place.connect("small") }).await;
    wire.ack(kind - 1, 99).await;
    let unknown = wire.receive().await;
    let known = if kind == 7 {
        wire.publish(4, 5, place.topic("t"), "x").await;
        wire.expect_done(5, 5).await;
        wire.ack(6, 5).await;
        wire.receive().await
    } else {
        wire.subscribe(1, &place.topic("t"), 2).await;
        let mut publisher = place.wire("publisher").await;
        publisher.say(2, place.topic("t"), "x").await;
        let id = wire.expect_publish().await.id;
        wire.ack(5, id).await;
        wire.receive().await
    };
    for answer in [&unknown, &known] {
        assert!(answer.kind() == kind && answer.size() <= 50, "{answer:x?}");
        assert_eq!(property(&properties_after(answer, 3), 0x26), None, "no user properties");
    }
    vec![unknown, known]
}

async fn second_half_codes(place: &Place, kind: u8) {
    let codes: Vec<u8> = second_halves(place, kind).await.iter().map(|packet| packet.body.get(2).copied().unwrap_or(0)).collect();
    assert_eq!(codes, [0x92, 0x00], "of an unknown and of a known identifier");
}

pub(super) async fn pubrel_codes(place: Place) {
    second_half_codes(&place, 6).await;
}

pub(super) async fn pubcomp_codes(place: Place) {
    second_half_codes(&place, 7).await;
}

pub(super) async fn pubrels_fit(place: Place) {
    second_halves(&place, 6).await;
}

pub(super) async fn pubcomps_fit(place: Place) {
    second_halves(&place, 7).await;
}

pub(super) async fn pubrel_flags(place: Place) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        place.ends("PUBREL with other flags", &[0x60 | flags, 2, 0, 1], &[0x81]).await;
    }
}

/// 3.1.1 cannot say no: a positive answer, or the end.
pub(super) async fn refused_publish(place: Place) {
    let mut wire = place.wire("x").await;
    wire.publish(2, 1, "$SYS/x", "x").await;
    match wire.receive_or_end().await {
        None => {}
        Some(packet) => assert_eq!((packet.first, &packet.body[..]), (0x40, &[0, 1][..])),
    }
}
