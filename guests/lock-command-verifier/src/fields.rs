//! A strict reader of flat JSON objects: names with strings and numbers, nothing nested, nothing twice.
//!
//! What is signed must be read in one way only, so everything that two readers could take differently is refused: a name that
//! occurs twice, control characters, numbers in a form that JSON does not have, anything after the object. Absent: nested values,
//! `true`, `false`, `null`, which the signature's text cannot carry.

use std::borrow::Cow;

/// More fields than this are refused; a command has five.
const MAX_FIELDS: usize = 32;

/// The payload is not such an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A number as it is written.
    Number(&'a str),
}

impl Value<'_> {
    /// As the signature's text has it.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Value::Text(text) => text,
            Value::Number(number) => number,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Value::Text(_) => None,
            Value::Number(number) => number.parse().ok(),
        }
    }
}

/// The fields of an object, sorted by name.
pub(crate) fn read(payload: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    let text = std::str::from_utf8(payload).map_err(|_| Malformed)?;
    let mut reader = Reader { text, at: 0 };
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
    fields.iter().find(|field| field.name == name).map(|field| &field.value).ok_or(Malformed)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
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
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.text.get(start..self.at).ok_or(Malformed)?;
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped_string(start).map(Cow::Owned),
                Some(0x20..) => self.at += 1,
                _ => return Err(Malformed),
            }
        }
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String, Malformed> {
        let mut text = self.text.get(start..self.at).ok_or(Malformed)?.to_owned();
        loop {
            let next = self.text.get(self.at..).and_then(|rest| rest.chars().next()).ok_or(Malformed)?;
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\x1f' => return Err(Malformed),
                _ => text.push(next),
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
                let low = match self.text.get(self.at..self.at + 2) {
                    Some("\\u") => {
                        self.at += 2;
                        self.four_digits()?
                    }
                    _ => return Err(Malformed),
                };
                let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(Malformed)?;
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + low).ok_or(Malformed)?
            }
            _ => return Err(Malformed),
        })
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        self.at += 4;
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(Malformed)
    }

    /// RFC 8259: `[-] (0 | 1-9 digits) [. digits] [(e|E) [+|-] digits]`.
    fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.at;
        self.digits()?;
        if self.text.as_bytes().get(whole) == Some(&b'0') && self.at > whole + 1 {
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
        self.text.get(start..self.at).ok_or(Malformed)
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
            let shown: Vec<String> = fields.iter().map(|field| format!("{}={}", field.name, field.value.as_str())).collect();
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
                }
            }
            changed[at] = payload[at];
        }
    }
}
