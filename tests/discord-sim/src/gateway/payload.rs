//! Gateway payloads: what is sent, what may be received, and how it is packed.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};

/// The largest payload that a client may send, in bytes (`gateway.mdx`, "Sending Events").
pub(crate) const RECEIVED_BYTES_MAX: usize = 4_096;

/// A dispatch (op 0).
pub(crate) fn dispatch(event: &str, seq: u64, data: &Value) -> String {
    json!({"t": event, "s": seq, "op": 0, "d": data}).to_string()
}

/// HELLO (op 10).
pub(crate) fn hello(heartbeat_interval_ms: u64) -> String {
    json!({"t": null, "s": null, "op": 10, "d": {"heartbeat_interval": heartbeat_interval_ms}})
        .to_string()
}

/// HEARTBEAT ACK (op 11).
pub(crate) fn heartbeat_ack() -> String {
    json!({"t": null, "s": null, "op": 11, "d": null}).to_string()
}

/// A request for a heartbeat now (op 1).
pub(crate) fn heartbeat_request() -> String {
    json!({"t": null, "s": null, "op": 1, "d": null}).to_string()
}

/// RECONNECT (op 7).
pub(crate) fn reconnect() -> String {
    json!({"t": null, "s": null, "op": 7, "d": null}).to_string()
}

/// INVALID SESSION (op 9).
pub(crate) fn invalid_session(resumable: bool) -> String {
    json!({"t": null, "s": null, "op": 9, "d": resumable}).to_string()
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    /// Its opcode.
    pub(crate) op: u64,
    /// Its data; null when left out.
    pub(crate) d: Value,
}

/// Reads a client's payload; none: it cannot be decoded (close 4002).
pub(crate) fn read(bytes: &[u8]) -> Option<Received> {
    if bytes.len() > RECEIVED_BYTES_MAX {
        return None;
    }
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    Some(Received {
        op: value.get("op")?.as_u64()?,
        d: value.get_mut("d").map(Value::take).unwrap_or_default(),
    })
}

/// The compression of one connection.
pub(crate) enum Packing {
    /// JSON in text frames.
    Plain,
    /// `compress=zlib-stream`: binary frames of one deflate stream, each flushed with `00 00 ff ff`.
    ZlibStream(Compress),
}

impl Packing {
    /// A fresh zlib stream.
    pub(crate) fn zlib_stream() -> Self {
        Self::ZlibStream(Compress::new(Compression::fast(), true))
    }

    /// Packs a payload; none for plain text, whose frame is the text itself.
    pub(crate) fn pack(&mut self, text: &str) -> Result<Option<Bytes>, flate2::CompressError> {
        let Self::ZlibStream(stream) = self else {
            return Ok(None);
        };
        let mut input = text.as_bytes();
        let mut packed = Vec::with_capacity(input.len() / 4 + 64);
        loop {
            let before = stream.total_in();
            stream.compress_vec(input, &mut packed, FlushCompress::Sync)?;
            let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            // Room left over means that the flush is whole.
            if input.is_empty() && packed.len() < packed.capacity() {
                return Ok(Some(packed.into()));
            }
            packed.reserve(packed.capacity().max(64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_that_cannot_be_decoded_are_refused() {
        for bad in ["", "{", "[]", "{}", r#"{"op":"1"}"#, r#"{"op":-1}"#] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        let long = format!(r#"{{"op":1,"d":"{}"}}"#, "x".repeat(RECEIVED_BYTES_MAX));
        assert_eq!(read(long.as_bytes()), None);
        assert_eq!(
            read(br#"{"op":1}"#),
            Some(Received {
                op: 1,
                d: Value::Null
            })
        );
    }

    #[test]
    fn every_packed_payload_ends_in_a_flush_and_all_of_them_are_one_stream() {
        let mut packing = Packing::zlib_stream();
        let mut reader = flate2::Decompress::new(true);
        for length in [0, 1, 10, 1_000, 100_000, 3, 64, 65, 255] {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let packed = packing.pack(&text).unwrap().unwrap();
            assert!(
                packed.ends_with(&[0, 0, 0xff, 0xff]),
                "no flush after {length}"
            );
            let mut plain = Vec::with_capacity(length + 64);
            reader
                .decompress_vec(&packed, &mut plain, flate2::FlushDecompress::Sync)
                .unwrap();
            assert_eq!(plain, text.as_bytes());
        }
    }
}
