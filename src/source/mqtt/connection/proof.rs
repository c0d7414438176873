//! Who is it? Before a client is in, it shows a password, or AUTH goes back and forth until somebody is sure (MQTT 5, section 4.12).

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::handshake::read_packet;
use crate::{
    event::{Bytes, Client, Credentials, Denial, Step, Text},
    pipeline::Exchange,
    source::mqtt::{
        Shared,
        codec::Codec,
        own,
        packet::{Auth, Connect, Incoming, Outgoing},
        reason::{self, Fault},
        session::connect::Terms,
    },
};

/// What CONNECT brings to prove who the client is.
pub(super) struct Proof {
    credentials: Credentials,
    data: Option<Bytes>,
}

impl Proof {
    pub(super) fn of(connect: &Connect) -> Self {
        let method = connect.authentication_method.as_ref().map(own::text);
        let credentials = Credentials { method, password: connect.password.as_ref().map(own::bytes) };
        Proof { credentials, data: connect.authentication_data.as_ref().map(own::bytes) }
    }

    /// Sees who the client is, by its password or, when it names a method, by an exchange whose last word goes into `terms`.
    ///
    /// # Errors
    /// For CONNACK.
    pub(super) async fn look<R, W>(
        self,
        shared: &Shared,
        client: &Arc<Client>,
        terms: &mut Terms,
        socket: (&mut R, &mut W),
        packets: (&mut Codec, &mut BytesMut),
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match &self.credentials.method {
            Some(method) => terms.proved(exchange(shared, client, (method, self.data), socket, packets).await?),
            None => {
                let answer = shared.pipeline.authenticate(client, &self.credentials).await;
                answer.map_err(|denial| refusal(denial, terms.protocol.is_5()))?;
            }
        }
        Ok(())
    }
}

async fn exchange<R, W>(
    shared: &Shared,
    client: &Arc<Client>,
    (method, mut data): (&Text, Option<Bytes>),
    (reader, writer): (&mut R, &mut W),
    (codec, input): (&mut Codec, &mut BytesMut),
) -> Result<Option<Bytes>, Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut exchange = Exchange::new(method.clone(), false);
    let mut output = BytesMut::new();
    loop {
        let challenge = match shared.pipeline.exchange(client, &mut exchange, data).await.map_err(|denial| refusal(denial, true))? {
            Step::Allow(data) => return Ok(data),
            Step::Proceed(challenge) => challenge,
        };
        let auth = Auth { code: reason::CONTINUE_AUTHENTICATION, method: Some(method.clone()), data: challenge };
        if codec.encode(Outgoing::Auth(Box::new(auth)), &mut output).is_err() {
            let text = "AUTH exceeds the client's maximum packet size";
            return Err(Fault::new(reason::PACKET_TOO_LARGE, "packet-too-large", text));
        }
        shared.metrics.bytes_sent.inc_by(output.len() as u64);
        shared.metrics.packets_sent.inc();
        let written = writer.write_all_buf(&mut output).await;
        written.map_err(|error| Fault::new(reason::UNSPECIFIED, "connection-lost", error.to_string()))?;
        let answer = read_packet(reader, codec, input, &shared.metrics).await?;
        shared.metrics.packets_received.inc();
        data = match answer {
            // [MQTT-4.12.0-3], [MQTT-4.12.0-5]
            Incoming::Auth(auth) if auth.code == reason::CONTINUE_AUTHENTICATION && auth.method.as_ref() == Some(method) => auth.data,
            Incoming::Auth(_) => return Err(Fault::protocol("AUTH with another method or reason code than the exchange has")),
            Incoming::Disconnect(_) => return Err(Fault::new(reason::UNSPECIFIED, "connection-lost", "the client gave up")),
            _ => return Err(Fault::protocol("neither AUTH nor DISCONNECT before the client is in")), // [MQTT-3.1.2-30]
        };
    }
}

fn refusal(denial: Denial, five: bool) -> Fault {
    let code = reason::for_connect(denial.reason_code, five);
    let word = match code {
        reason::BAD_USER_NAME_OR_PASSWORD => "bad-user-name-or-password",
        reason::BAD_AUTHENTICATION_METHOD => "bad-authentication-method",
        _ => "not-authorized",
    };
    Fault::new(code, word, denial.reason)
}
