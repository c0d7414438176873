//! The event of `packed-publish`, read from one block of bytes; `src/guest/packed.rs` of Hookgate has the layout and writes it.
//!
//! The host writes it, so it is as it should be; what is not is an error, never a panic.

use crate::{Client, Context, Fault, Header, Message, Qos};

/// The version of the layout that is read here.
const LAYOUT: u8 = 1;

/// Takes a block apart.
///
/// # Errors
/// The host speaks another layout.
pub fn read(mut block: Vec<u8>) -> Result<(Context, Client, Message), Fault> {
    let payload_bytes = block.last_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let head = payload_bytes.and_then(|payload| block.get(payload..));
    let read = head.and_then(|bytes| Reader { bytes }.event());
    let (Some((context, client, mut message)), Some(payload_bytes)) = (read, payload_bytes) else {
        return Err(Fault::Internal("the host packs events in a layout that this guest does not know: build it with a newer SDK".to_owned()));
    };
    block.truncate(payload_bytes); // the payload stands first, so the block becomes the payload
    message.payload = block;
    Ok((context, client, message))
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn event(&mut self) -> Option<(Context, Client, Message)> {
        if self.byte()? != LAYOUT {
            return None;
        }
        let context = Context { id: self.u64()?, time_ms: self.u64()?, node: self.text()? };
        let client = Client {
            client_id: self.text()?,
            username: self.optional(Self::text)?,
            peer: self.text()?,
            protocol_version: self.byte()?,
            certificate_name: self.optional(Self::text)?,
            connected_at_ms: self.u64()?,
        };
        let message = Message {
            payload: Vec::new(),
            topic: self.text()?,
            qos: match self.byte()? {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retain: self.byte()? != 0,
            expiry_s: self.optional(Self::u32)?,
            content_type: self.optional(Self::text)?,
            response_topic: self.optional(Self::text)?,
            correlation_data: self.optional(|reader| reader.counted().map(<[u8]>::to_vec))?,
            user_properties: self.headers()?,
        };
        Some((context, client, message))
    }

    fn headers(&mut self) -> Option<Vec<Header>> {
        let count = self.u32()? as usize;
        let mut headers = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            headers.push(Header { name: self.text()?, value: self.text()? });
        }
        Some(headers)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn counted(&mut self) -> Option<&[u8]> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.counted()?.to_vec()).ok()
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.byte()? == 0 { Some(None) } else { read(self).map(Some) }
    }
}
