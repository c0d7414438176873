//! A strict reader of flat JSON objects: names with strings and numbers, nothing nested, nothing twice.
//!
//! What is signed must be read in one way only, so everything that two readers could take differently is refused: a name that
//! occurs twice, control characters, numbers in a form that JSON does not have, anything after the object. Absent: nested values,
//! `true`, `false`, `null`, which the signature's text cannot carry.
//!
//! Texts are bytes here, UTF-8 that was checked once: the signature is over bytes, and names sort as bytes as they do as characters.

use std::borrow::Cow;

use crate::scan;

/// More fields than this are refused; a command has five.
const MAX_FIELDS: usize = 32;

/// The payload is not such an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A string, its escapes resolved.
    Text(Cow<'a, [u8]>),
    /// A number as it is written.
    Number(&'a [u8]),
}

impl Value<'_> {
    /// As the signature's text has it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text,
            Value::Number(number) => number,
        }
    }

    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Value::Text(_) => None,
            Value::Number(number) => std::str::from_utf8(number).ok()?.parse().ok(),
        }
    }
}

/// The fields of an object, sorted by name.
pub(crate) fn read(payload: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    if !scan::is_ascii(payload) && std::str::from_utf8(payload).is_err() {
        return Err(Malformed);
    }
    let mut reader = Reader { payload, at: 0 };
    let mut fields = Vec::with_capacity(8);
    reader.expect(b'{')?;
    if reader.skip_space() == Some(b'}') {
        reader.at += 1;
    } else {
        loop {
            fields.push(reader.field()?);
            match reader.next_byte() {
                Some(b',') if fields.len() < MAX_FIELDS => {}
                Some(b'}') => break,
                _ => return Err(Malformed),
            }
        }
    }
    if reader.skip_space().is_some() {
        return Err(Malformed);
    }
    fields.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let twice = fields.windows(2).any(|pair| matches!(pair, [a, b] if a.name == b.name));
    if twice { Err(Malformed) } else { Ok(fields) }
}

/// The field of that name, from what [`read`] returned.
pub(crate) fn find<'f, 'a>(fields: &'f [Field<'a>], name: &str) -> Result<&'f Value<'a>, Malformed> {
    fields.iter().find(|field| *field.name == *name.as_bytes()).map(|field| &field.value).ok_or(Malformed)
}

/// Where it goes on in a payload that is UTF-8.
struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.payload.get(self.at).copied()
    }

    /// The next byte that is no white space, not yet taken.
    fn skip_space(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    /// Takes the next byte that is no white space.
    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.skip_space();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.next_byte() == Some(byte) { Ok(()) } else { Err(Malformed) }
    }

    /// What there is from `start` up to here.
    fn since(&self, start: usize) -> Result<&'a [u8], Malformed> {
        self.payload.get(start..self.at).ok_or(Malformed)
    }

    /// Goes to the end of what a string has without a quote, an escape or a control character; the byte there.
    fn skip_plain(&mut self) -> Option<u8> {
        self.at += scan::plain(self.payload.get(self.at..)?);
        self.peek()
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        self.expect(b'"')?;
        let name = self.string()?;
        self.expect(b':')?;
        let value = match self.skip_space() {
            Some(b'"') => {
                self.at += 1;
                Value::Text(self.string()?)
            }
            _ => Value::Number(self.number()?),
        };
        Ok(Field { name, value })
    }

    /// The rest of a string, after its opening quote.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at;
        match self.skip_plain() {
            Some(b'"') => {
                let text = self.since(start)?;
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.escaped_string(start).map(Cow::Owned),
            _ => Err(Malformed),
        }
    }

    /// A string whose first escape is next.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<Vec<u8>, Malformed> {
        let mut text = self.since(start)?.to_vec();
        loop {
            let start = self.at;
            let next = self.skip_plain();
            text.extend_from_slice(self.since(start)?);
            self.at += 1;
            match next {
                Some(b'"') => return Ok(text),
                Some(b'\\') => text.extend_from_slice(self.escape()?.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => return Err(Malformed),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.four_digits()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).ok_or(Malformed);
                }
                if self.payload.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(Malformed);
                }
                self.at += 2;
                let low = self.four_digits()?.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(Malformed)?;
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + low).ok_or(Malformed)?
            }
            _ => return Err(Malformed),
        })
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let digits = self.payload.get(self.at..self.at + 4).ok_or(Malformed)?;
        self.at += 4;
        let digit = |number: u32, digit: &u8| Some(number << 4 | char::from(*digit).to_digit(16)?);
        digits.iter().try_fold(0, digit).ok_or(Malformed)
    }

    /// RFC 8259: `[-] (0 | 1-9 digits) [. digits] [(e|E) [+|-] digits]`.
    fn number(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.at;
        self.digits()?;
        if self.payload.get(whole) == Some(&b'0') && self.at > whole + 1 {
            return Err(Malformed);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.since(start)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("it was checked")
    }

    #[test]
    fn reads_flat_objects_sorted_by_name() {
        for (payload, expected) in [
            ("{}", ""),
            (" { } ", ""),
            (r#"{"b":"2","a":1}"#, "a=1 b=2"),
            ("\t{\n\"a\" : -1.50e+7 ,\r\"b\":\"\"} ", "a=-1.50e+7 b="),
            (r#"{"a":0,"ä":"日本","Z":1}"#, "Z=1 a=0 ä=日本"),
            (r#"{"a":"\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00!"}"#, "a=\"\\/\x08\x0c\n\r\tAé😀!"),
        ] {
            let fields = read(payload.as_bytes()).unwrap_or_else(|_| panic!("{payload}"));
            let shown: Vec<String> = fields.iter().map(|field| format!("{}={}", text(&field.name), text(field.value.bytes()))).collect();
            assert_eq!(shown.join(" "), expected, "{payload}");
        }
    }

    #[test]
    fn refuses_whatever_could_be_read_in_two_ways() {
        let many = format!("{{{}}}", (0..33).map(|n| format!("\"f{n}\":1")).collect::<Vec<_>>().join(","));
        for payload in [
            "",
            " ",
            "{",
            "}",
            "[]",
            "null",
            "\"a\"",
            "{}x",
            "{}{}",
            "{a:1}",
            "{'a':1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1,\"a\":1}",
            r#"{"a":1,"\u0061":2}"#,
            "{\"a\":true}",
            "{\"a\":null}",
            "{\"a\":{}}",
            "{\"a\":[1]}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":0x1}",
            "{\"a\":NaN}",
            "{\"a\":\"x}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\n\u{1}\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\u+123"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\"#,
            "\u{feff}{}",
            &many,
        ] {
            assert_eq!(read(payload.as_bytes()), Err(Malformed), "{payload}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}"), Err(Malformed));
    }

    #[test]
    fn every_prefix_and_every_changed_byte_is_met_with_an_answer() {
        let payload = br#"{"process_id":"78\u00e9","ts":-1574744434.5e3,"sign":"\ud83d\ude00"}"#;
        assert_eq!(read(payload).map(|fields| fields.len()), Ok(3));
        for end in 0..payload.len() {
            assert_eq!(read(&payload[..end]), Err(Malformed));
        }
        let mut changed = payload.to_vec();
        for at in 0..payload.len() {
            for byte in 0..=u8::MAX {
                changed[at] = byte;
                if let Ok(fields) = read(&changed) {
                    assert!(std::str::from_utf8(&changed).is_ok() && fields.is_sorted_by(|a, b| a.name < b.name));
                    fields.iter().for_each(|field| _ = (text(&field.name), text(field.value.bytes())));
                }
            }
            changed[at] = payload[at];
        }
    }
}
