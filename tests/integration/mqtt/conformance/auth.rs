//! Enhanced authentication (3.15 and 4.12).

use super::place::{Place, properties_after, property, string_property};
use crate::mqtt::wire::{Connect, Wire};

pub(super) async fn flags(place: Place) {
    for flags in 1..16 {
        place.ends("AUTH with flags", &[0xF0 | flags, 2, 0x18, 0], &[0x81]).await;
    }
}

pub(super) async fn unknown_method(place: Place) {
    let connect = Connect { properties: string_property(0x15, "NOBODY-KNOWS"), ..place.connect("x") };
    let answer = place.refused("an unknown method", &connect.bytes()).await;
    assert!(answer.is_none_or(|answer| [0x8C, 0x87].contains(&answer.body[1])));
}

pub(super) async fn without_a_method(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let found = properties_after(&connack, 2);
    assert_eq!((property(&found, 0x15), property(&found, 0x16)), (None, None));
    wire.subscribe(1, &place.topic("t"), 1).await;
    wire.publish(0, 0, place.topic("t"), "x").await;
    assert_eq!(wire.receive().await.kind(), 3);
    wire.expect_quiet().await;
}

pub(super) async fn auth_without_a_method(place: Place) {
    for bytes in [&[0xF0, 0][..], &[0xF0, 2, 0x18, 0], &[0xF0, 2, 0x19, 0]] {
        place.ends("AUTH", bytes, &[0x82]).await;
    }
    let method = string_property(0x15, "X");
    let bytes = [&[0xF0, 2 + method.len() as u8, 0x19, method.len() as u8][..], &method].concat();
    place.ends("AUTH with a method that CONNECT had not", &bytes, &[0x82, 0x8C]).await;
}
