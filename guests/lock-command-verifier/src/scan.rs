//! Looking for bytes in long texts, sixteen at a time where the machine can: WebAssembly's vectors are on in every host of today, and
//! are asked for here alone, so that no flag of the compiler is needed.

/// Bytes that are compared at once.
const WIDTH: usize = 16;

/// Whether all of it is ASCII.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
pub(crate) fn is_ascii(text: &[u8]) -> bool {
    skip(text, |byte| byte >= 0x80) == text.len()
}

/// How many bytes there are before the first that ends a string of JSON, escapes or does not belong there: `"`, `\`, control characters.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
pub(crate) fn plain(text: &[u8]) -> usize {
    skip(text, |byte| byte < 0x20 || byte == b'"' || byte == b'\\')
}

/// Whether the byte is in it.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
pub(crate) fn contains(text: &[u8], wanted: u8) -> bool {
    skip(text, |byte| byte == wanted) < text.len()
}

/// How many bytes there are before the first that is meant, or all.
#[inline(always)]
fn skip(text: &[u8], meant: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = text.as_chunks::<WIDTH>();
    // No early end within a block: that is what makes one comparison of sixteen.
    let without = blocks.iter().take_while(|block| !block.iter().fold(false, |any, byte| any | meant(*byte))).count() * WIDTH;
    let rest = text.get(without..).unwrap_or_default();
    without + rest.iter().position(|byte| meant(*byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_seen_wherever_it_is() {
        for length in 0..70 {
            let text = vec![b'a'; length];
            assert_eq!((plain(&text), is_ascii(&text), contains(&text, b'&')), (length, true, false));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = text.clone();
                    text[at] = byte;
                    let ends = matches!(byte, 0..0x20 | b'"' | b'\\');
                    assert_eq!(plain(&text), if ends { at } else { length }, "{byte:#x} at {at} of {length}");
                    assert_eq!(is_ascii(&text), byte < 0x80);
                    assert_eq!(contains(&text, b'&'), byte == b'&');
                }
            }
        }
    }
}
