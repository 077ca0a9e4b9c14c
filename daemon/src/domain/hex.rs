//! Bytes as people write them.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Two digits a byte.
pub fn text(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// For serde.
pub fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(bytes))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let digits = String::deserialize(from)?;
    let byte = |at: usize| digits.get(2 * at..2 * at + 2);
    let mut bytes = [0; 32];
    for (at, place) in bytes.iter_mut().enumerate() {
        let byte = byte(at).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        *place = byte.ok_or_else(|| D::Error::custom("64 hexadecimal digits are expected"))?;
    }
    Ok(bytes)
}
