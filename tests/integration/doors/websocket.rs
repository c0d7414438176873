//! MQTT over WebSocket, plain and encrypted.

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        handshake::client::Response,
        http::HeaderValue,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use super::{
    House, LET_IN,
    certificates::{Authority, here},
    connect, publish,
};
use crate::support::PATIENCE;

/// Opens a WebSocket, offering these subprotocols.
async fn open<S>(stream: S, path: &str, offer: Option<&'static str>) -> Result<(WebSocketStream<S>, Response), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    if let Some(offer) = offer {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(offer));
    }
    client_async(request, stream).await
}

/// The next `count` bytes of binary messages.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < count {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("no end").unwrap() {
            Message::Binary(bytes) => got.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    got
}

/// How the server closes.
async fn close_code<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Option<CloseCode> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time")? {
            Ok(Message::Close(Some(CloseFrame { code, .. }))) => return Some(code),
            Ok(Message::Close(None)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

const DOOR: &str = "[[listener]]\nprotocol = \"ws\"\nbind = \"127.0.0.1:0\"\npath = \"/things\"\n[mqtt]\nmax_packet_bytes = 1000\n";

/// Subscribes to what it publishes: packets cut anywhere, several packets in one message, and fragmented messages.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) {
    let subscribe = [0x82, 6, 0, 1, 0, 1, b'a', 0];
    let opening = [&connect(4, "browser", 0)[..], &subscribe].concat();
    for piece in opening.chunks(3) {
        socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
    }
    assert_eq!(receive(socket, 9).await, [&LET_IN[..], &[0x90, 3, 0, 1, 0]].concat());

    let packets = [publish(4, None, "a", b"one"), publish(4, None, "a", b"two")].concat();
    socket.send(Message::Binary(packets.clone().into())).await.unwrap();
    assert_eq!(receive(socket, packets.len()).await, packets);

    let (head, tail) = packets.split_at(4);
    let data = |bytes: &[u8], kind, is_final| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), is_final));
    socket.send(data(head, Data::Binary, false)).await.unwrap();
    socket.send(Message::Ping(b"alive?".to_vec().into())).await.unwrap();
    let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong(b"alive?".to_vec().into()));
    socket.send(data(tail, Data::Continue, true)).await.unwrap();
    assert_eq!(receive(socket, packets.len()).await, packets);

    socket.send(Message::Binary([0xC0, 0].repeat(20_000).into())).await.unwrap();
    assert_eq!(receive(socket, 40_000).await, [0xD0, 0].repeat(20_000));
    socket.send(Message::Binary(vec![0xE0, 0].into())).await.unwrap();
    assert_eq!(close_code(socket).await, None, "closed in order, without a complaint");
}

#[tokio::test]
async fn packets_and_messages_need_not_agree() {
    let house = House::start(DOOR).await;
    for (offer, spoken) in [("mqtt", "mqtt"), ("chat, mqttv3.1", "mqttv3.1"), ("x,mqtt,mqttv3.1", "mqtt")] {
        let (mut socket, response) = open(house.knock("ws").await, "/things?from=test", Some(offer)).await.unwrap();
        assert_eq!(response.headers().get("Sec-WebSocket-Protocol").map(HeaderValue::as_bytes), Some(spoken.as_bytes()));
        converse(&mut socket).await;
    }
}

#[tokio::test]
async fn encrypted_too() {
    let authority = Authority::new();
    let tls = authority.sign("server", None, &[]).settings();
    let house = House::start(&format!("[[listener]]\nprotocol = \"wss\"\nbind = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n")).await;
    let stream = authority.client(&[&TLS13], None).connect(here(), house.knock("wss").await).await.unwrap();
    let (mut socket, _) = open(stream, "/mqtt", Some("mqtt")).await.unwrap();
    converse(&mut socket).await;
}

#[tokio::test]
async fn requests_that_are_no_mqtt_are_answered() {
    let house = House::start(DOOR).await;
    for (path, offer, expected) in
        [("/", Some("mqtt"), 404), ("/mqtt", Some("mqtt"), 404), ("/things", None, 400), ("/things", Some("chat"), 400)]
    {
        match open(house.knock("ws").await, path, offer).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), expected, "{path} {offer:?}"),
            other => panic!("{path} {offer:?}: {other:?}"),
        }
    }
    house.until("four refusals", |house| house.refused("websocket-handshake") == 4).await;
}

#[tokio::test]
async fn messages_that_are_no_mqtt_end_the_connection() {
    let house = House::start(DOOR).await;
    let raw = |bytes: &[u8], kind| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), true));
    for (message, code) in [
        (Message::Text("hello".into()), CloseCode::Unsupported),
        (Message::Binary([0xC0, 0].repeat(40_000).into()), CloseCode::Size),
        (raw(b"x", Data::Continue), CloseCode::Protocol),
    ] {
        let (mut socket, _) = open(house.knock("ws").await, "/things", Some("mqtt")).await.unwrap();
        socket.send(Message::Binary(connect(4, "browser", 0).into())).await.unwrap();
        assert_eq!(receive(&mut socket, 4).await, LET_IN);
        let described = format!("{message:.60?}");
        let _ = socket.send(message).await; // the server may close before it has all of it
        let closed = close_code(&mut socket).await;
        // Where bytes were left unread, the reset may overtake the close frame.
        assert!(closed == Some(code) || (code == CloseCode::Size && closed.is_none()), "{described}: {closed:?}");
    }
}
