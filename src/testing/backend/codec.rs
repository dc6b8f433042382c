//! Conversion of values between text format, in which the backend keeps them, and binary format.

use super::array;
use super::refusal::Refusal;
use super::types::Type;

/// Converts a value from binary format to text format.
pub(super) fn decode(of: Type, bytes: &[u8]) -> Result<String, Refusal> {
    let text = match of {
        Type::BOOL => match bytes {
            [0] => Some("f".to_owned()),
            [1] => Some("t".to_owned()),
            _ => None,
        },
        Type::INT2 => fixed(bytes).map(|raw| i16::from_be_bytes(raw).to_string()),
        Type::INT4 => fixed(bytes).map(|raw| i32::from_be_bytes(raw).to_string()),
        Type::INT8 => fixed(bytes).map(|raw| i64::from_be_bytes(raw).to_string()),
        Type::OID => fixed(bytes).map(|raw| u32::from_be_bytes(raw).to_string()),
        Type::FLOAT4 => fixed(bytes).map(|raw| float(&f32::from_be_bytes(raw).to_string())),
        Type::FLOAT8 => fixed(bytes).map(|raw| float(&f64::from_be_bytes(raw).to_string())),
        Type::BYTEA => Some(format!("\\x{}", hex(bytes))),
        Type::UUID => fixed(bytes).map(uuid),
        Type::VOID => bytes.is_empty().then(String::new),
        Type::JSONB => match bytes.split_first() {
            Some((1, json)) => return utf8(json),
            _ => None,
        },
        _ if is_text(of) => return utf8(bytes),
        _ => match of.element() {
            Some(element) => return decode_array(element, bytes),
            None => return Err(unsupported(of)),
        },
    };
    text.ok_or_else(malformed)
}

/// Converts a value from text format to binary format.
pub(super) fn encode(of: Type, text: &str) -> Result<Vec<u8>, Refusal> {
    let number = text.trim();
    let bytes = match of {
        Type::BOOL => boolean(number).map(|value| vec![u8::from(value)]),
        Type::INT2 => number.parse::<i16>().ok().map(|value| value.to_be_bytes().into()),
        Type::INT4 => number.parse::<i32>().ok().map(|value| value.to_be_bytes().into()),
        Type::INT8 => number.parse::<i64>().ok().map(|value| value.to_be_bytes().into()),
        Type::OID => number.parse::<u32>().ok().map(|value| value.to_be_bytes().into()),
        Type::FLOAT4 => number.parse::<f32>().ok().map(|value| value.to_be_bytes().into()),
        Type::FLOAT8 => number.parse::<f64>().ok().map(|value| value.to_be_bytes().into()),
        Type::BYTEA => text.strip_prefix("\\x").and_then(unhex),
        Type::UUID => unhex(&number.replace('-', "")).filter(|bytes| bytes.len() == 16),
        Type::VOID => Some(Vec::new()),
        Type::JSONB => Some([&[1], text.as_bytes()].concat()),
        _ if is_text(of) => Some(text.as_bytes().to_vec()),
        _ => match of.element() {
            Some(element) => return encode_array(element, text),
            None => return Err(unsupported(of)),
        },
    };
    bytes.ok_or_else(|| invalid(of, text))
}

/// Returns a value in the spelling of its type.
pub(super) fn canonical(of: Type, text: &str) -> Result<String, Refusal> {
    encode(of, text).and_then(|bytes| decode(of, &bytes))
}

/// Returns the bytes as UTF-8 text without NUL.
pub(super) fn utf8(bytes: &[u8]) -> Result<String, Refusal> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text.to_owned()),
        _ => Err(Refusal::not_utf8()),
    }
}

/// Returns whether the binary format of a type is its text.
const fn is_text(of: Type) -> bool {
    matches!(
        of,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN
    )
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Returns infinity and NaN as the server spells them.
fn float(text: &str) -> String {
    text.replace("inf", "Infinity")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let [high, low] = fixed::<2>(pair)?.map(|digit| char::from(digit).to_digit(16));
        u8::try_from(high?.wrapping_mul(16).wrapping_add(low?)).ok()
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

fn uuid(raw: [u8; 16]) -> String {
    let hex = hex(&raw);
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

/// `array_recv`, for one dimension.
fn decode_array(element: Type, mut bytes: &[u8]) -> Result<String, Refusal> {
    let (dimensions, _has_null) = (word(&mut bytes)?, word(&mut bytes)?);
    if word(&mut bytes)?.to_be_bytes() != element.oid().to_be_bytes() {
        return Err(Refusal::new("42804", "wrong element type"));
    }
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = word(&mut bytes)?;
            // The index of the first element.
            word(&mut bytes)?;
            count
        }
        _ => return Err(Refusal::unsupported("an array of several dimensions")),
    };
    let mut elements = Vec::new();
    // Each element takes at least four bytes, so the message limits their number.
    for _ in 0..count {
        let length = word(&mut bytes)?;
        elements.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
                bytes = rest;
                Some(decode(element, value)?)
            }
            Err(_) if length == -1 => None,
            Err(_) => return Err(malformed()),
        });
    }
    if bytes.is_empty() { Ok(array::literal(&elements)) } else { Err(malformed()) }
}

fn word(bytes: &mut &[u8]) -> Result<i32, Refusal> {
    let (word, rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
    *bytes = rest;
    Ok(i32::from_be_bytes(*word))
}

/// `array_send`.
fn encode_array(element: Type, text: &str) -> Result<Vec<u8>, Refusal> {
    let elements = array::elements(text)?;
    let word = |value: usize| i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&word(usize::from(!elements.is_empty())));
    bytes.extend_from_slice(&word(usize::from(elements.iter().any(Option::is_none))));
    bytes.extend_from_slice(&element.oid().to_be_bytes());
    if !elements.is_empty() {
        bytes.extend_from_slice(&word(elements.len()));
        bytes.extend_from_slice(&word(1));
    }
    for value in elements {
        match value {
            None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                let value = encode(element, &value)?;
                bytes.extend_from_slice(&word(value.len()));
                bytes.extend_from_slice(&value);
            }
        }
    }
    Ok(bytes)
}

fn malformed() -> Refusal {
    Refusal::new("22P03", "incorrect binary data format in bind parameter")
}

fn invalid(of: Type, text: &str) -> Refusal {
    let name = match of {
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::BOOL => "boolean",
        _ => of.name(),
    };
    Refusal::new("22P02", format!("invalid input syntax for type {name}: \"{text}\""))
}

fn unsupported(of: Type) -> Refusal {
    Refusal::unsupported(&format!("the binary format of the type {}", of.oid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_both_formats() {
        for (of, text) in [
            (Type::BOOL, "t"),
            (Type::INT2, "-7"),
            (Type::INT4, "2147483647"),
            (Type::INT8, "-9223372036854775808"),
            (Type::OID, "4294967295"),
            (Type::FLOAT4, "0.1"),
            (Type::FLOAT8, "-0.25"),
            (Type::FLOAT8, "-Infinity"),
            (Type::FLOAT8, "NaN"),
            (Type::TEXT, "é"),
            (Type::NAME, ""),
            (Type::BYTEA, "\\x00ff"),
            (Type::UUID, "00112233-4455-6677-8899-aabbccddeeff"),
            (Type::JSONB, "{\"a\": 1}"),
            (Type::VOID, ""),
            (Type(1_009), "{a,NULL,\"b \\\"\\\\\",\"\",\"null\"}"),
            (Type(1_007), "{1,2}"),
            (Type(1_016), "{}"),
        ] {
            let bytes = encode(of, text).unwrap();
            assert_eq!(decode(of, &bytes).unwrap(), text, "{of:?}");
        }
    }

    #[test]
    fn an_invalid_value_of_a_type_is_refused() {
        let announced = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1];
        for (of, bytes, code) in [
            (Type::BOOL, &[2][..], "22P03"),
            (Type::INT4, &[0; 3], "22P03"),
            (Type::UUID, &[0; 15], "22P03"),
            (Type::VOID, &[0], "22P03"),
            (Type::JSONB, &[2, b'1'], "22P03"),
            (Type::TEXT, &[0xff], "22021"),
            (Type::TEXT, &[0], "22021"),
            (Type(1_184), &[0; 8], "0A000"),
            (Type(1_009), &[0; 12], "42804"),
            (Type(1_009), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0], "22P03"),
            (Type(1_009), &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 25], "0A000"),
            // Two thousand million elements are announced, and none follows.
            (Type(1_009), &announced, "22P03"),
        ] {
            assert_eq!(decode(of, bytes).unwrap_err().code(), code, "{of:?} {bytes:?}");
        }
        for (of, text, code) in [
            (Type::INT2, "32768", "22P02"),
            (Type::BOOL, "maybe", "22P02"),
            (Type::UUID, "0011", "22P02"),
            (Type::BYTEA, "\\x0", "22P02"),
            (Type(1_009), "{", "22P02"),
            (Type(1_082), "2026-01-01", "0A000"),
        ] {
            assert_eq!(encode(of, text).unwrap_err().code(), code, "{of:?} {text}");
        }
    }
}
